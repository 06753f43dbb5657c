import csv
import shutil
from datetime import date
from pathlib import Path

from benchmarks.next_day import deliver_again


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_next_day_repeats_the_sales_but_no_receipt(landing: Path, tmp_path: Path) -> None:
    shutil.copytree(landing, tmp_path, dirs_exist_ok=True)
    path = deliver_again(tmp_path, date(2017, 4, 1), date(2018, 1, 2))
    again, before = read(path), read(path.with_name("transactions-2017-04-01.csv"))
    assert path.name == "transactions-2018-01-02.csv"
    assert {line["transaction_timestamp"][:11] for line in again} == {"2018-01-02 "}
    assert not {line["basket_id"] for line in again} & {line["basket_id"] for line in before}
    same = ("household_id", "store_id", "product_id", "quantity", "sales_value")
    assert [[line[name] for name in same] for line in again] == [
        [line[name] for name in same] for line in before
    ]
