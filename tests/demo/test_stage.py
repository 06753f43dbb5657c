import csv
import shutil
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest

from demo import journey
from demo.stage import StagedLanding, stage_landing
from headrace.errors import ConfigError

MONEY = ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
FIRST, DAY_AFTER = date(2017, 12, 24), date(2017, 12, 27)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file that a listing of the landing folder can see."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.glob("*/*")
    }


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days around Christmas, of which one has no sales; read only."""
    return stage_landing(tmp_path_factory.mktemp("days"), start=FIRST, end=DAY_AFTER).landing


@pytest.fixture
def landing(staged: Path, tmp_path: Path) -> Path:
    """A copy of the three days, with the times of the files: to staging it is its own work."""
    folder = tmp_path / "landing"
    shutil.copytree(staged, folder)
    return folder


def test_the_year_has_a_file_for_each_day_but_christmas(year: StagedLanding) -> None:
    found = {path.name for path in (year.landing / "transactions").iterdir()}
    days = {date(2017, 1, 1) + timedelta(days=n) for n in range(366)} - {date(2017, 12, 25)}
    assert found == {f"transactions-{day}.csv" for day in days}


def test_the_year_adds_up_to_the_cent(year: StagedLanding) -> None:
    rows, cents = 0, 0
    for path in (year.landing / "transactions").iterdir():
        _, *lines = path.read_text().splitlines()
        rows += len(lines)
        cents += sum(int(line.split(",", 6)[5].replace(".", "")) for line in lines)
    assert (rows, cents) == (1_469_307, 459_603_958)
    assert year.rows("transactions") == 1_469_307


def test_a_file_holds_its_own_day_written_as_the_source_would(landing: Path) -> None:
    lines = read(landing / "transactions/transactions-2017-12-26.csv")
    assert {line["transaction_timestamp"][:11] for line in lines} == {"2017-12-26 "}
    assert all(len(line["transaction_timestamp"]) == len("2017-12-26 08:00:00") for line in lines)
    assert all(line[money][-3] == "." for line in lines for money in MONEY)
    assert list(lines[0]) == [
        "household_id",
        "store_id",
        "basket_id",
        "product_id",
        "quantity",
        *MONEY,
        "week",
        "transaction_timestamp",
    ]


def test_every_buying_household_is_told_of_and_only_some_are_described(
    year: StagedLanding,
) -> None:
    first = read(year.landing / "households/households-2017-01-01.csv")
    later = [line for line in told_later(year, "households") if line["operation"] == "I"]
    described = {"household_id", "operation", "changed_at"}
    bare = [h for h in [*first, *later] if not any(v for k, v in h.items() if k not in described)]
    assert len({h["household_id"] for h in [*first, *later]}) == 2_469
    assert len(bare) == pytest.approx(1_668, abs=5)
    assert first[0] == {
        "household_id": "1",
        "age": "65+",
        "income": "35-49K",
        "home_ownership": "Homeowner",
        "marital_status": "Married",
        "household_size": "2",
        "household_comp": "2 Adults No Kids",
        "kids_count": "0",
        "operation": "I",
        "changed_at": "2017-01-01 00:00:00",
    }


def told_later(year: StagedLanding, name: str) -> list[dict[str, str]]:
    _, *later = sorted((year.landing / name).iterdir())
    return [line for path in later for line in read(path)]


def test_the_catalogue_and_the_stores_are_whole(year: StagedLanding) -> None:
    first = read(year.landing / "products/products-2017-01-01.csv")
    products = {line["product_id"] for line in [*first, *told_later(year, "products")]}
    stores = read(year.landing / "stores/stores-2017-01-01.csv")
    assert len({product["product_id"] for product in first}) == len(first) < len(products)
    assert len(products) == 92_331
    assert sum(not product["package_size"] for product in first) == pytest.approx(30_586, abs=30)
    assert len({store["store_id"] for store in stores}) == len(stores) == 457
    assert {"store_id": "330", "store_name": "Store 330", "region": "West"} in stores
    regions = Counter(store["region"] for store in stores)
    assert set(regions) == {"North", "East", "South", "West"}
    assert min(regions.values()) > 80


def test_staging_again_changes_nothing(landing: Path) -> None:
    before = snapshot(landing)
    assert stage_landing(landing, start=FIRST, end=DAY_AFTER).written == 0
    assert snapshot(landing) == before


def test_without_its_manifest_staging_compares_contents(landing: Path) -> None:
    before = snapshot(landing)
    (landing / ".staged.json").unlink()
    assert stage_landing(landing, start=FIRST, end=DAY_AFTER).written == 0
    assert snapshot(landing) == before


def test_a_changed_and_a_missing_file_are_staged_again_and_no_other(landing: Path) -> None:
    before = snapshot(landing)
    changed = "transactions/transactions-2017-12-24.csv"
    missing = "stores/stores-2017-01-01.csv"
    (landing / changed).write_text("household_id\n")
    (landing / missing).unlink()
    assert stage_landing(landing, start=FIRST, end=DAY_AFTER).written == 2
    after = snapshot(landing)
    assert {path: content for path, (content, _) in after.items()} == {
        path: content for path, (content, _) in before.items()
    }
    assert {path for path in after if after[path] != before[path]} == {changed, missing}


def test_a_wider_window_adds_days_and_keeps_the_files_that_are_there(landing: Path) -> None:
    before = snapshot(landing)
    staged = stage_landing(landing, start=FIRST - timedelta(days=1), end=DAY_AFTER)
    after = snapshot(landing)
    added = set(after) - set(before)
    assert staged.written == len(added)
    assert "transactions/transactions-2017-12-23.csv" in added
    assert all("-2017-12-23." in path for path in added)
    assert before.items() <= after.items()


def test_files_of_others_in_the_folder_are_left_alone(landing: Path) -> None:
    (landing / "orders").mkdir()
    (landing / "orders/mine.csv").write_text("mine")
    stage_landing(landing, start=FIRST, end=date(2017, 12, 25))
    assert (landing / "orders/mine.csv").read_text() == "mine"


def test_nothing_unfinished_stays_behind(landing: Path) -> None:
    hidden = [path.name for path in landing.rglob(".*")]
    assert hidden == [".staged.json"]


def test_two_stagings_elsewhere_give_the_same_bytes(landing: Path, tmp_path: Path) -> None:
    again = stage_landing(tmp_path / "again", start=FIRST, end=DAY_AFTER).landing
    assert {path: content for path, (content, _) in snapshot(again).items()} == {
        path: content for path, (content, _) in snapshot(landing).items()
    }


def test_progress_counts_every_file_whether_written_or_not(tmp_path: Path) -> None:
    first: list[tuple[int, int]] = []
    stage_landing(tmp_path, start=FIRST, end=DAY_AFTER, progress=lambda *step: first.append(step))
    again: list[tuple[int, int]] = []
    stage_landing(tmp_path, start=FIRST, end=DAY_AFTER, progress=lambda *step: again.append(step))
    files = len(snapshot(tmp_path))
    assert first == [(done, files) for done in range(1, files + 1)]
    assert again[-1] == (files, files)


def test_without_the_data_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journey, "_WHEEL", "no-such-wheel")
    with pytest.raises(ConfigError, match="no-such-wheel is not installed") as error:
        stage_landing(tmp_path)
    assert error.value.fix == "run `make setup`"


def test_the_demo_from_files_has_every_dbt_file_but_those_of_the_weather() -> None:
    root = Path(__file__).parents[2]
    ours, theirs = root / "dbt", root / "demo/files/dbt"
    made = {"target", "logs", "weather"}
    every = {path.relative_to(ours) for path in ours.rglob("*.*") if path.is_file()}
    wanted = {path for path in every if not made & {*path.parts} and path.name[0] != "."}
    linked = {path.relative_to(theirs) for path in theirs.rglob("*.*") if path.is_file()}
    assert linked == wanted
