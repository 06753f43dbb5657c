"""Naive periodic snapshots: for each day, go through all that happened up to it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa

from headrace.config.sources.file_source import FileEntity
from headrace.config.star.models import FactConfig
from headrace.standardize.schemas import processed_schema

FIRST = date(2017, 1, 1)
ENTITY = FileEntity.model_validate(
    {
        "name": "stock",
        "extract": {"mode": "files", "path": "s-{date:%Y-%m-%d}.csv"},
        "key": ["shop", "sku"],
        "columns": [
            {"name": "shop", "type": "string"},
            {"name": "sku", "type": "bigint"},
            {"name": "pieces", "type": "int"},
            {"name": "worth", "type": "decimal(12,2)"},
            {"name": "shelf", "type": "string"},
        ],
    }
)
_OF_CHANGES = {
    "name": "fact_stock",
    "kind": "periodic_snapshot",
    "snapshot_of": "changes",
    "entity": "s.stock",
    "grain": ["shop", "sku"],
    "columns": ["shop", "sku", "shelf"],
    "measures": ["pieces", "worth"],
}
CHANGES = FactConfig.model_validate(_OF_CHANGES)
MOVEMENTS = FactConfig.model_validate(
    {**_OF_CHANGES, "snapshot_of": "movements", "grain": ["shop"], "columns": ["shop"]}
)

State = tuple[object, ...]


@dataclass(frozen=True)
class Row:
    """One row of a day; shop and sku are its key within the day."""

    shop: str
    sku: int
    pieces: int | None = 0
    worth: str | None = "0.00"
    shelf: str | None = None


Days = Mapping[int, Sequence[Row]]


def day(number: int) -> date:
    """A day of the tests' calendar."""
    return FIRST + timedelta(days=number)


def naive_states(config: FactConfig, told: Days, number: int) -> set[State]:
    """The rows of the day `number`, without keys."""
    rows = [(on, row) for on in sorted(told) if on <= number for row in told[on]]
    if config.snapshot_of == "changes":
        last = {(row.shop, row.sku): row for _, row in rows}
        return {(*key, r.shelf, r.pieces, _number(r.worth)) for key, r in last.items()}
    shops = {row.shop for _, row in rows}
    return {
        (
            shop,
            _sum(row.pieces for _, row in rows if row.shop == shop),
            _sum(_number(row.worth) for _, row in rows if row.shop == shop),
        )
        for shop in shops
    }


def processed_table(told: Days) -> pa.Table:
    """The rows as processed rows of their days."""
    stamp = datetime(2017, 6, 1, tzinfo=UTC)
    rows = [
        {
            "shop": row.shop,
            "sku": row.sku,
            "pieces": row.pieces,
            "shelf": row.shelf,
            "worth": _number(row.worth),
            "_captured_at": stamp,
            "_delivery_order": "20170601T000000000000 f",
            "_source_object": "f",
            "_source_position": line,
            "_processed_at": stamp,
            "_run_id": "run",
            "_code_version": "code",
            "_partition_date": day(on),
        }
        for on in sorted(told)
        for line, row in enumerate(told[on])
    ]
    return pa.Table.from_pylist(rows, schema=processed_schema(ENTITY).arrow())


def shown(config: FactConfig, row: Mapping[str, object]) -> State:
    """A row of the fact as the naive ones are."""
    return tuple(row[name] for name in (*config.columns, *config.measures))


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _sum(values: Iterable[int | Decimal | None]) -> int | Decimal | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None
