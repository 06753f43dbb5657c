"""Exchange rates of the euro from the European Central Bank's file, by currency and day."""

import csv
import io
import re
import zipfile
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from headrace.config.entities.enrichments import RATE_TYPES, EcbRates
from headrace.enrichment.reference_file import parsed
from headrace.errors import ConfigError
from headrace.schema import arrow_type

_PACKAGED = "eurofxref-hist.zip"
_ABSENT = ("N/A", "")
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,6})?")
_PLACES = Decimal("1e-15")
_FIX = "use eurofxref-hist.csv or .zip as the European Central Bank publishes it"


@dataclass(frozen=True)
class Rates:
    """The published rates of one currency: units per euro.

    Attributes:
        days: Ascending.
        units: The rate of each day, as text.
    """

    days: Sequence[date]
    units: Sequence[str]


def rates_path(enrichment: EcbRates, folder: Path) -> Path:
    """The file of the rates."""
    if enrichment.file is not None:
        return folder / enrichment.file
    # The package's module is not imported: its file is all that is needed.
    spec = find_spec("currency_converter")
    assert spec is not None  # noqa: S101  # a dependency
    assert spec.origin is not None  # noqa: S101
    return Path(spec.origin).parent / _PACKAGED


def load_rates(path: Path) -> dict[str, Rates]:
    """The rates of a file, by currency.

    Raises:
        ConfigError: There is no file, or it is not one of the European Central Bank.
    """
    return parsed(path, _parse)


def find_rates(enrichment: EcbRates, keys: pa.Table, folder: Path) -> pa.Table:
    """The keys that have a rate, with its columns: the last rate of a limited age."""
    rates, age = load_rates(rates_path(enrichment, folder)), timedelta(enrichment.max_age_days)
    pairs = zip(keys["currency"].to_pylist(), keys["day"].to_pylist(), strict=True)
    rows = []
    for currency, day in pairs:
        found = (Decimal(1), day) if currency == "EUR" else _as_of(rates.get(currency), day, age)
        if found is not None:
            units, on = found
            per_unit = (1 / units).quantize(_PLACES, ROUND_HALF_UP)
            values = {"units_per_euro": units, "euros_per_unit": per_unit, "rate_date": on}
            rows.append((currency, day, *(values[what] for what in enrichment.columns.values())))
    names = ["currency", "day", *enrichment.columns]
    kinds = ["string", "date", *(RATE_TYPES[what] for what in enrichment.columns.values())]
    return pa.table(
        [pa.array([row[i] for row in rows], arrow_type(kind)) for i, kind in enumerate(kinds)],
        names,
    )


def _as_of(rates: Rates | None, day: date, age: timedelta) -> tuple[Decimal, date] | None:
    if rates is None or not (place := bisect_right(rates.days, day)):
        return None
    on = rates.days[place - 1]
    return (Decimal(rates.units[place - 1]), on) if day - on <= age else None


def _parse(path: Path) -> dict[str, Rates]:
    lines = csv.reader(io.StringIO(_text(path)))
    header = [name.strip() for name in next(lines, [])]
    if not header or header[0] != "Date":
        raise ConfigError(f"{path}: line 1: does not begin with the column Date", fix=_FIX)
    columns = [(i, name) for i, name in enumerate(header) if i and name]
    found: dict[str, list[tuple[date, str]]] = {name: [] for _, name in columns}
    for line, fields in enumerate(lines, start=2):
        day = _day(path, line, fields[0]) if fields else None
        if day is None:
            continue
        for i, name in columns:
            text = fields[i].strip() if i < len(fields) else ""
            if text not in _ABSENT:
                found[name].append((day, _rate(path, line, name, text)))
    for rates in found.values():
        rates.sort()
    return {
        name: Rates([day for day, _ in rates], [text for _, text in rates])
        for name, rates in found.items()
    }


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = archive.read("eurofxref-hist.csv")
        return content.decode("utf-8-sig")
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError):
        raise ConfigError(f"{path}: is no file of exchange rates", fix=_FIX) from None


def _day(path: Path, line: int, text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(
            f"{path}: line {line}: Date: is not a day such as 2024-01-31", fix=_FIX
        ) from None


def _rate(path: Path, line: int, currency: str, text: str) -> str:
    if _NUMBER.fullmatch(text) and Decimal(text):
        return text
    raise ConfigError(
        f"{path}: line {line}: {currency}: is not a positive number of at most 6 places", fix=_FIX
    )
