"""The rows before and after a row of the same member.

Belongs here: looking at neighbours without a window for each member.
Elsewhere: what follows from them (headrace.star.history, headrace.star.events).

A window that is partitioned by member costs some microseconds a member and expression in engines
built on DataFusion: 92,000 members took six times as long as the same rows in a few partitions.
So members share partitions, in which each one's rows lie together.
"""

from collections.abc import Callable, Sequence

from pyspark.sql import Column, Window, WindowSpec
from pyspark.sql import functions as F

# More than a cluster's tasks for such a frame, and few enough that each has thousands of members.
_PARTITIONS = 64


class Neighbours:
    """Rows of a member in an order.

    Args:
        key: Columns of the natural key; no row may have a NULL in them.
        order: What orders a member's rows.
    """

    def __init__(self, key: Sequence[str], order: Sequence[Column]) -> None:
        self._key = key
        # Which hash does not matter: it only deals out members, and engines differ in it.
        dealt = F.pmod(F.xxhash64(*key), F.lit(_PARTITIONS))
        self._window: WindowSpec = Window.partitionBy(dealt).orderBy(*key, *order)

    def before(self, column: str) -> Column:
        """The column's value in the member's row before; NULL in its first row."""
        return self._same(F.lag, 1, column)

    def after(self, column: str, rows: int = 1) -> Column:
        """The column's value some rows later; NULL if the member has fewer."""
        return self._same(F.lead, rows, column)

    def latest(self, value: Column) -> Column:
        """The value of the member's last row up to this one that has one; NULL without any."""
        # With its member beside it: the last row of a value may be of the member before.
        named = F.struct(*(F.col(name) for name in self._key), value.alias("_value"))
        so_far = self._window.rowsBetween(Window.unboundedPreceding, Window.currentRow)
        found = F.last(F.when(value.isNotNull(), named), ignorenulls=True).over(so_far)
        is_same = F.lit(True)
        for name in self._key:
            is_same = is_same & (found.getField(name) == F.col(name))
        return F.when(is_same, found.getField("_value"))

    def _same(self, look: Callable[[str, int], Column], rows: int, column: str) -> Column:
        is_same = F.lit(True)
        for name in self._key:
            is_same = is_same & (look(name, rows).over(self._window) == F.col(name))
        return F.when(is_same, look(column, rows).over(self._window))
