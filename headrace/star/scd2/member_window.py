"""Window functions over the ordered rows of each member of a dimension."""

from collections.abc import Callable, Sequence

from pyspark.sql import Column, Window, WindowSpec
from pyspark.sql import functions as F

# More than a cluster runs in parallel, and few enough that each has thousands of members.
_BUCKETS = 64


class MemberWindow:
    """A window over the ordered rows of each member.

    Its partitions are hash buckets of members, because a partition for each member would be too
    small. Each function checks that the other row is of the same member.

    Args:
        key: Columns of the natural key, without NULLs.
        order: Order of a member's rows.
    """

    def __init__(self, key: Sequence[str], order: Sequence[Column]) -> None:
        self._key = key
        # The engines may compute different hashes, which only distribute the members.
        bucket = F.pmod(F.xxhash64(*key), F.lit(_BUCKETS))
        self._window: WindowSpec = Window.partitionBy(bucket).orderBy(*key, *order)

    def lag(self, column: str) -> Column:
        """The column's value in the member's previous row; NULL in its first row."""
        return self._at(F.lag, 1, column)

    def lead(self, column: str, rows: int = 1) -> Column:
        """The column's value `rows` rows later; NULL if the member has fewer rows."""
        return self._at(F.lead, rows, column)

    def last_value(self, value: Column) -> Column:
        """The last non-NULL value among the member's rows up to this one."""
        # With the key, because the last value in the partition may be of another member.
        named = F.struct(*(F.col(name) for name in self._key), value.alias("_value"))
        so_far = self._window.rowsBetween(Window.unboundedPreceding, Window.currentRow)
        found = F.last(F.when(value.isNotNull(), named), ignorenulls=True).over(so_far)
        is_same = self._all_equal(found.getField)
        return F.when(is_same, found.getField("_value"))

    def _at(self, function: Callable[[str, int], Column], rows: int, column: str) -> Column:
        is_same = self._all_equal(lambda name: function(name, rows).over(self._window))
        return F.when(is_same, function(column, rows).over(self._window))

    def _all_equal(self, other: Callable[[str], Column]) -> Column:
        """Whether another row has the key of this one."""
        is_same = F.lit(True)
        for name in self._key:
            is_same = is_same & (other(name) == F.col(name))
        return is_same
