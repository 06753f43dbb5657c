"""Small sets of files, each with other habits of writing, made anew for every test run."""

import json
import random
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.sources.workbooks import workbook

ROWS = 120
_WORDS = ["Käse", "Brötchen", "Müsli", "Öl", "Äpfel", "Saft", "Milch", "Tee", "Reis", "Salz"]
_FIRST, _LAST = ["Ada", "Bo", "Cleo", "Dov", "Eve"], ["Lind", "Mora", "Nagy", "Okoro", "Park"]


def write_semicolons(folder: Path) -> None:
    """Tills: latin-1, `;`, decimal comma, points between thousands, one file a day but Sundays."""
    chance = random.Random(1)  # noqa: S311
    for day in (date(2024, 3, 1) + timedelta(days=n) for n in range(21)):
        if day.weekday() == 6:
            continue
        lines = ["Beleg-Nr;Position;Zeitpunkt;Artikel;Menge;Preis;Betrag;Rabatt;PLZ;Storno;Filiale"]
        for receipt in range(ROWS // 4):
            at = datetime(day.year, day.month, day.day, 8) + timedelta(minutes=receipt * 17 % 700)
            for position in range(1, 5):
                price = Decimal(chance.randrange(99, 250_000)) / 100
                amount = chance.randrange(1, 9)
                discount = "" if chance.random() < 0.3 else f"{chance.randrange(0, 500) / 10:.1f} %"
                fields = [
                    f"{day:%Y%m%d}{receipt:03d}",
                    str(position),
                    f"{at:%d.%m.%Y %H:%M}",
                    chance.choice(_WORDS),
                    str(amount),
                    german(price),
                    german(price * amount),
                    discount.replace(".", ","),
                    f"{chance.randrange(1000, 99999):05d}",
                    chance.choice(["true", "false", "false"]),
                    chance.choice(["Nord", "Süd", "West"]),
                ]
                lines.append(";".join(fields))
        _write(folder / f"kasse/umsatz_{day:%Y%m%d}.csv", lines, "latin-1")


def write_tabs(folder: Path) -> None:
    """Orders: tabs, the day first, in numbered parts whose names have no date."""
    chance = random.Random(2)  # noqa: S311
    for part in range(1, 13):
        names = ["OrderID", "OrderDate", "ShippedOn", "CustomerID", "Customer Name", "BirthDate"]
        lines = ["\t".join([*names, "Phone", "Amount", "Is Gift", "Country Code"])]
        for row in range(ROWS):
            ordered = date(2023, 1, 1) + timedelta(days=chance.randrange(360))
            shipped = ordered + timedelta(days=chance.randrange(1, 30))
            born = date(1940, 1, 1) + timedelta(days=chance.randrange(22_000))
            fields = [
                str(part * 1000 + row),
                f"{ordered.day}/{ordered.month}/{ordered.year}",
                "NULL" if row % 5 == 0 else f"{shipped.day}/{shipped.month}/{shipped.year}",
                "NULL" if chance.random() < 0.1 else str(chance.randrange(1, 400)),
                f"{chance.choice(_FIRST)} {chance.choice(_LAST)}",
                f"{born:%d/%m/%y}",
                f"+44 20 7946 {chance.randrange(1000, 9999)}",
                f"£{chance.randrange(100, 999_999) / 100:,.2f}",
                chance.choice("01"),
                chance.choice(["GB", "FR", "NA", "DE"]),
            ]
            lines.append("\t".join(fields))
        _write(folder / f"orders-part-{part}.tsv", lines, "utf-8")


def write_pipes(folder: Path) -> None:
    """Bank statements: `|`, a preamble, comments and a trailer, one file a month."""
    chance = random.Random(3)  # noqa: S311
    for month in (date(2023, m, 1) for m in range(1, 13)):
        lines = ["Bank of Examples", f"Statement {month:%Y-%m}", ""]
        lines.append("TxnId|BookedOn|ValueTime|IBAN|Card|Amount|Balance|Purpose|Kind|Email")
        balance = Decimal(1000)
        for row in range(ROWS):
            day = month + timedelta(days=chance.randrange(28))
            amount = Decimal(chance.randrange(-99_999, 120_000)) / 100
            balance += amount
            fields = [
                f"T{month:%Y%m}{row:04d}",
                f"{day:%Y%m%d}",
                f"{day:%m/%d/%Y} {chance.randrange(1, 13)}:{chance.randrange(60):02d} "
                + chance.choice(["AM", "PM"]),
                iban(chance),
                card(chance),
                f"{amount}",
                f"{balance}",
                f'"rent | {chance.choice(_WORDS)} ""{row}"""',
                chance.choice(["DBT", "CRD", "FEE"]),
                f"{chance.choice(_FIRST).lower()}{row}@example.org",
            ]
            lines.append("|".join(fields))
            if row == 60:
                lines.append("# page 2")
        lines.append(f"TRAILER|{ROWS}")
        _write(folder / f"bank_{month:%Y-%m}.txt", lines, "utf-8")


def write_parquet(folder: Path) -> None:
    """Readings by day, and a list of devices, as Parquet."""
    chance = random.Random(4)  # noqa: S311
    devices = pa.table(
        {
            "device_id": pa.array(range(1, 41), pa.int64()),
            "label": [f"Sensor {n}" for n in range(1, 41)],
            "installed": [f"{n % 28 + 1:02d}.{n % 12 + 1:02d}.2022" for n in range(40)],
            "price": pa.array([chance.randrange(1000, 9999) / 100 for _ in range(40)]),
            "ip": [f"10.0.{n}.{n + 7}" for n in range(40)],
            "kind": pa.array([chance.choice(["a", "b"]) for _ in range(40)]).dictionary_encode(),
            "tags": pa.array([["x"]] * 40),
        }
    )
    folder.joinpath("devices").mkdir(parents=True)
    pq.write_table(devices, folder / "devices/devices.parquet")
    for day in (datetime(2024, 5, 1) + timedelta(days=n) for n in range(8)):
        times = [day + timedelta(minutes=12 * n) for n in range(ROWS)]
        readings = pa.table(
            {
                "reading_id": pa.array(range(ROWS), pa.int32()),
                "deviceId": pa.array([chance.randrange(1, 41) for _ in times], pa.int64()),
                "measured_at": pa.array(times, pa.timestamp("ns", tz="UTC")),
                "temperature": pa.array([chance.gauss(20, 5) for _ in times]),
                "cost": pa.array(
                    [Decimal(chance.randrange(999)) / 100 for _ in times], pa.decimal128(9, 2)
                ),
                "parent_id": pa.array([float(n % 9) if n % 3 else None for n in range(ROWS)]),
                "ok": pa.array([n % 7 > 0 for n in range(ROWS)]),
            }
        )
        target = folder / f"readings/day={day:%Y-%m-%d}"
        target.mkdir(parents=True)
        pq.write_table(readings, target / "part-0.parquet")


Texts = Callable[[random.Random], str]
# Of a wide table, kinds of columns: name, how a value is written. One value in 20 is left out of
# those whose name begins with `maybe`.
WIDE: tuple[tuple[str, Texts], ...] = (
    ("units", lambda c: str(c.randrange(500))),
    ("delta", lambda c: str(c.randrange(-500, 500))),
    ("weight", lambda c: f"{c.random() * 100:.3f}"),
    ("price", lambda c: f"{c.randrange(100, 99999) / 100:.2f}"),
    ("iso_date", lambda c: f"{_day(c)}"),
    ("us_date", lambda c: f"{_day(c).month}/{_day(c).day}/{_day(c).year}"),
    ("stamp", lambda c: f"{_day(c)}T{c.randrange(24):02d}:{c.randrange(60):02d}:07"),
    ("instant", lambda c: f"{_day(c)} {c.randrange(24):02d}:30:00+02:00"),
    ("named_date", lambda c: f"{_day(c):%d %b %Y}"),
    ("is_open", lambda c: c.choice("YN")),
    ("article_code", lambda c: f"{c.randrange(9999):06d}"),
    ("note", lambda c: " ".join(c.choice(_WORDS) for _ in range(4))),
    ("status", lambda c: c.choice(["new", "paid", "sent"])),
    ("empty", lambda _: ""),
    ("score", lambda c: "N/A" if c.random() < 0.1 else str(c.randrange(100))),
    ("level", lambda c: "-" if c.random() < 0.1 else f"{c.random() * 9:.2f}"),
    ("usd", lambda c: f"${c.randrange(100, 999_999) / 100:,.2f}"),
    ("token", lambda c: f"{c.getrandbits(64):016x}-x"),
    ("big", lambda c: str(c.randrange(10**13, 10**15))),
    ("maybe_count", lambda c: str(c.randrange(40))),
)


def write_wide(folder: Path) -> None:
    """One table of 200 columns of mixed types, with commas and quotes."""
    chance = random.Random(5)  # noqa: S311
    names = [f"{name}_{n}" for n in range(1, 11) for name, _ in WIDE]
    names = ["row_id", *names[1:]]
    lines = [",".join(names)]
    for row in range(ROWS):
        fields = [str(row + 1)]
        for number in range(1, 200):
            name, write = WIDE[number % len(WIDE)]
            is_left_out = name.startswith("maybe") and chance.random() < 0.05
            text = "" if is_left_out else write(chance)
            fields.append(f'"{text}"' if "," in text else text)
        lines.append(",".join(fields))
    _write(folder / "wide.csv", lines, "utf-8")


def write_formats(folder: Path) -> None:
    """JSON in lines and in documents, a workbook of two sheets, text of fixed width."""
    chance = random.Random(6)  # noqa: S311
    for day in (date(2024, 6, 1) + timedelta(days=n) for n in range(4)):
        orders = [
            {
                "orderId": day.toordinal() * 100 + n,
                "placedAt": f"{day}T{n % 24:02d}:15:00Z",
                "customer": {"id": n % 9, "address": {"city": chance.choice(_WORDS)}},
                "lines": [{"sku": f"0{n}", "qty": 2}],
                "total": chance.randrange(100, 9999) / 100,
                "paid": n % 3 == 0,
            }
            | ({"coupon code": "X1"} if n % 4 == 0 else {})
            for n in range(40)
        ]
        _write(folder / f"orders/orders-{day}.jsonl", [json.dumps(o) for o in orders], "utf-8")
        rates = [{"currency": c, "rate": 1 + chance.random()} for c in ("USD", "GBP", "CHF")]
        document = {"as_of": f"{day}", "result": {"rates": rates}}
        _write(folder / f"rates/rates_{day:%Y%m%d}.json", [json.dumps(document, indent=2)], "utf-8")
    targets: list[list[Any]] = [
        ["Targets of 2024"],
        [],
        ["Store ID", "Valid On", "Target amount", "Note"],
    ]
    targets += [[n, date(2024, 1, n), n * 100.5, f"note {n}"] for n in range(1, 29)]
    managers: list[list[Any]] = [
        ["Store ID", "Manager Name"],
        *([n, f"Ada {n}"] for n in range(1, 29)),
    ]
    folder.joinpath("plan").mkdir()
    folder.joinpath("plan/plan.xlsx").write_bytes(
        workbook({"Targets": targets, "Managers": managers})
    )
    lines = ["id      name            booked      amount"]
    lines += [
        f"{n:06d}  {chance.choice(_FIRST):<14}  {date(2024, 5, 1 + n % 28)}{n * 7.25:>8.2f}"
        for n in range(1, 61)
    ]
    _write(folder / "bank/bookings.txt", lines, "utf-8")


def german(number: Decimal) -> str:
    """1.234,50."""
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


def iban(chance: random.Random) -> str:
    """A German IBAN whose check digits are right."""
    account = f"{chance.randrange(10**17, 10**18)}"
    return f"DE{98 - int(account + '131400') % 97:02d}{account}"


def card(chance: random.Random) -> str:
    """Sixteen digits with Luhn's check digit."""
    digits = [4, *(chance.randrange(10) for _ in range(14))]
    total = sum(d if i % 2 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits))
    return "".join(map(str, digits)) + str(-total % 10)


def _day(chance: random.Random) -> date:
    return date(2021, 1, 1) + timedelta(days=chance.randrange(1000))


def _write(path: Path, lines: list[str], encoding: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)


SETS: dict[str, Callable[[Path], None]] = {
    "semicolons": write_semicolons,
    "tabs": write_tabs,
    "pipes": write_pipes,
    "parquet": write_parquet,
    "wide": write_wide,
    "formats": write_formats,
}
