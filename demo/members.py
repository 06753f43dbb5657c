"""Files of products and households: a full file on the first day, then change files."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from demo.history import INSERT, Change, Dice, History, Member, drawn

_INCOMES = (
    "Under 15K", "15-24K", "25-34K", "35-49K", "50-74K", "75-99K", "100-124K", "125-149K",
    "150-174K", "175-199K", "200-249K", "250K+",
)  # fmt: skip
_CHANGING = {
    "income": _INCOMES,
    "home_ownership": ("Homeowner", "Renter"),
    "marital_status": ("Married", "Unmarried"),
    "household_size": ("1", "2", "3", "4", "5+"),
}
_UNITS = ("OZ", "LB", "CT", "ML")
_USUAL_SIZE = 12
_SHARE_REPACKED = 0.8
# Deleted members are chosen among those whose sales pause for so many days: no sale falls into an
# absence, so that the sales of departments do not change.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 28, 90
_EPOCH = date(1970, 1, 1)
_MANY_DAYS = 100_000


def products_of_the_year(
    products: pa.Table, lines: pa.Table, first_day: date, end: date
) -> Iterator[tuple[date, pa.Table]]:
    """The rows of each day's file; about 5 % of products change, but never their department."""
    history = History(
        name="product",
        key="product_id",
        share=0.05,
        new_share=0.0005,
        change=_change_product,
        first_day=first_day,
        last_day=end - timedelta(days=1),
    )
    return _files(products, lines, history, absent=24)


def households_of_the_year(
    households: pa.Table, lines: pa.Table, first_day: date, end: date
) -> Iterator[tuple[date, pa.Table]]:
    """The rows of each day's file; about 10 % of households change."""
    history = History(
        name="household",
        key="household_id",
        share=0.10,
        new_share=0.01,
        change=_change_household,
        first_day=first_day,
        last_day=end - timedelta(days=1),
    )
    return _files(households, lines, history, absent=8)


def _change_product(dice: Dice, product: Member) -> Member:
    if not dice.chance(_SHARE_REPACKED):
        return product | {"brand": "Private" if product["brand"] == "National" else "National"}
    content, _, unit = (product["package_size"] or "").partition(" ")
    size = int(content) if content.isdecimal() else _USUAL_SIZE
    # A range, not a list: some package sizes are tens of millions.
    sizes = range(max(1, size * 3 // 4), size * 5 // 4 + 2)
    if size in sizes and str(size) == content:
        repacked = dice.pick(sizes[:-1])
        repacked += repacked >= size
    else:
        repacked = dice.pick(sizes)
    return product | {"package_size": f"{repacked} {unit or dice.pick(_UNITS)}"}


def _change_household(dice: Dice, household: Member) -> Member:
    column = dice.pick(list(_CHANGING))
    others = [value for value in _CHANGING[column] if value != household[column]]
    return household | {column: dice.pick(others)}


def _files(
    table: pa.Table, lines: pa.Table, history: History, *, absent: int
) -> Iterator[tuple[date, pa.Table]]:
    keys = table[history.key].to_pylist()
    absences = _absences(lines, history.key, absent)
    known = pa.array([not history.is_new(key) for key in keys])
    has_changes = pa.array([key in absences or history.is_chosen(key) for key in keys])
    yield history.first_day, _first_file(table.filter(known), history.first_day)
    changes = history.changes(table.filter(has_changes).to_pylist(), absences)
    for day, rows in groupby(changes, key=lambda change: change.delivered_on):
        yield day, _file_of_changes(list(rows), table.schema)


def _first_file(table: pa.Table, day: date) -> pa.Table:
    midnight = pa.scalar(datetime.combine(day, time()), pa.timestamp("s"))
    inserted = table.append_column("operation", pa.repeat(INSERT, len(table)))
    return inserted.append_column("changed_at", pa.repeat(midnight, len(table)))


def _file_of_changes(changes: Sequence[Change], schema: pa.Schema) -> pa.Table:
    columns = {
        field.name: pa.array([change.member[field.name] for change in changes], field.type)
        for field in schema
    }
    columns["operation"] = pa.array([change.operation for change in changes])
    columns["changed_at"] = pa.array([change.changed_at for change in changes], pa.timestamp("s"))
    return pa.table(columns)


def _absences(lines: pa.Table, key: str, count: int) -> Mapping[Any, tuple[date, date]]:
    """Draw `count` members whose sales pause for a month or two.

    Returns:
        By key, the first and last day of the pause, without sales.
    """
    days = lines["transaction_timestamp"].cast(pa.date32()).cast(pa.int32()).to_numpy()
    # Key and day as one number, which sorts in a third of the time.
    keys, sold = np.divmod(np.sort(lines[key].to_numpy() * _MANY_DAYS + days), _MANY_DAYS)
    pause = np.diff(sold)
    paused = (np.diff(keys) == 0) & (pause >= _SHORTEST_PAUSE) & (pause <= _LONGEST_PAUSE)
    found = {
        int(keys[i]): (
            _EPOCH + timedelta(int(sold[i]) + 1),
            _EPOCH + timedelta(int(sold[i + 1]) - 1),
        )
        for i in np.flatnonzero(paused)
    }
    absent = sorted(found, key=lambda member: drawn(f"{key} {member}"))[:count]
    return {member: found[member] for member in sorted(absent)}
