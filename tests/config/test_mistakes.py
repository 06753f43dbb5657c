"""Mistakes in configuration: each is refused with its file, line, place and the way out."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from headrace.config.loader import load_project
from headrace.config.model import StrictModel
from headrace.config.settings import ScheduleSettings
from headrace.config.sources.models import source_model
from headrace.config.star.models import StarConfig
from headrace.config.validation_messages import faults_in
from headrace.errors import ConfigError

CONFIG = Path(__file__).parents[2] / "demo/files/config"
SOURCE, STAR, BASE = "sources/retail.yaml", "star.yaml", "base.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONFIG, tmp_path / "config"))


def faults(folder: Path) -> list[str]:
    """The lines of the error, without the folder before them."""
    with pytest.raises(ConfigError) as caught:
        load_project({"HEADRACE_CONFIG": str(folder), "HEADRACE_HOME": "/scratch"})
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path.write_text(text)


AMOUNT = '{name: sales_value, type: "decimal(12,2)", required: true'
STAMP = "{name: transaction_timestamp, type: timestamp"
ACCESS = "{role: r, dimension: dim_location, column: store_id, values: [x]}"
PATH = "path: transactions/transactions-{date:%Y-%m-%d}.csv"


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            SOURCE,
            STAMP,
            STAMP + ', formats: ["%Y-%m-%d %H:%M:%S"]',
            "yaml:25: entities[transactions].columns[transaction_timestamp].formats: the date pat",
        ),
        (SOURCE, STAMP, STAMP + ', formats: ["%d/%m/%y"]', ": write dd/MM/yy"),
        (SOURCE, STAMP, STAMP + ", formats: [YYYY-MM-DD]", "letters 'YYYY': write yyyy-MM-dd"),
        (SOURCE, STAMP, STAMP + ", formats: [yyyy-mm-dd]", "a full date: write yyyy-MM-dd"),
        (SOURCE, STAMP, STAMP + ", formats: [DD.MM.YYYY HH24:MI]", "write dd.MM.yyyy HH:mm"),
        (SOURCE, STAMP, STAMP + ", formats: [yyyy-MM-dd XXX]", "has a zone: drop XXX"),
        (
            SOURCE,
            "{name: store_name, type: string",
            "{name: store_name, type: string, formats: [yyyy-MM-dd]",
            "sources/retail.yaml:76: entities[stores].columns[store_name].formats: is for date, ",
        ),
        (
            SOURCE,
            "{name: store_name, type: string",
            '{name: store_name, type: string, grouping: ","',
            "entities[stores].columns[store_name].grouping: is for int, bigint, double, decimal, n",
        ),
        (
            SOURCE,
            AMOUNT,
            AMOUNT.replace("decimal(12,2)", "numeric(12,2)"),
            "columns[sales_value].type: 'numeric(12,2)': is not a column type; use one of string, ",
        ),
        (SOURCE, "{name: week, type: int", "{name: week, type: text", "did you mean string?"),
        (SOURCE, PATH, PATH.replace(" tr", " /tr"), "extract.path: '/transactions/transactions-"),
        (SOURCE, PATH, PATH.replace(" tr", " ../tr"), "without empty parts, . or .."),
        (
            SOURCE,
            PATH,
            PATH.replace(" tr", " s3://shop/tr"),
            "must be a path below the landing zone",
        ),
        (
            SOURCE,
            PATH,
            PATH + '\n      format: {delimiter: "|", quote: "|"}',
            "entities[transactions].extract.format.quote: '|' is the delimiter too",
        ),
        (
            SOURCE,
            "quality: {max_quarantined_share: 0.01}",
            "quality: {min_rows: 10, max_rows: 5}",
            "entities[transactions].quality.min_rows: 10 is more than max_rows, 5",
        ),
        (
            SOURCE,
            "key: [store_id]",
            "key: [stor_id]",
            "stor_id: not among the columns store_id, store_name, region; did you mean store_id?",
        ),
        (SOURCE, "key: [store_id]", "key: [store_id, store_id]", "names a column twice"),
        (SOURCE, PATH, PATH.replace("date:", "day:"), "extract.path: {day:%Y-%m-%d} stands for no"),
        (SOURCE, PATH, PATH.replace("%Y-%m-%d", "YYYY-MM-DD"), "{date:YYYY-MM-DD} does not name"),
        (SOURCE, '"decimal(12,2)"', '"decimal(50,2)"', "a decimal has at most 38 digits"),
        (SOURCE, "_share: 0.01", "_share: 1%", "share: '1%': must be a number, such as 0.05"),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: {footer: -1}",
            "entities[transactions].extract.format.footer: -1: must be greater than or equal to 0",
        ),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: {header: flase}",
            ".extract.format.header: 'flase': must be true or false or a list; did you mean false?",
        ),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: {escape: '\\\\'}",
            r"in single quotes YAML keeps every backslash, so write '\'",
        ),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: {skip_lines: yes}",
            "true: must be a number, not true",
        ),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: {encoding: uft-8}",
            "Python knows; did you mean utf_8?",
        ),
        (SOURCE, "_share: 0.01", "_share: yes", "true: must be a number, not true or false"),
        (SOURCE, PATH, PATH + "\n      optional: ture", "'ture': must be true or false; did you m"),
        (
            SOURCE,
            PATH,
            PATH + "\n      format:\n        comment: #",
            "yaml:12: comment: YAML reads # as the beginning of a comment: write '#'",
        ),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: {header: [household_id, store_id]}",
            "yaml:11: entities[transactions].extract.format.header: basket_id is not among",
        ),
        (
            SOURCE,
            PATH,
            PATH + "\n      partition_by: transaction_timestamp",
            "yaml:11: entities[transactions].extract.partition_by: the path names the day already",
        ),
        (
            SOURCE,
            PATH,
            "path: transactions/transactions.csv",
            "yaml:10: entities[transactions].extract.path: names no day: add {date:…}, or parti",
        ),
        (
            SOURCE,
            "key: [store_id]",
            "key: [store_id]\n    partition: no",
            "yaml:74: entities[stores].partition: false, as YAML reads no and off, is not one of",
        ),
        (
            SOURCE,
            "key: [store_id]",
            "key: [store_id]\n    grain: month",
            "entities[stores].grain: is not a key that exists here; did you mean partition?",
        ),
        (
            STAR,
            "unknown: {department: Unknown}",
            "unknown: {department: Unknown}\n    max_vanished_share: 0.1",
            "dimensions[dim_product].max_vanished_share: is for dimensions with `full_snapshot",
        ),
        (
            STAR,
            "unknown: {department: Unknown}",
            "untracked: {department: department}",
            "dimensions[dim_product].untracked.department: columns named twice: department is in a",
        ),
        (
            STAR,
            "unknown: {department: Unknown}",
            "untracked: {valid_to: department}",
            "dimensions[dim_product].untracked.valid_to: 'valid_to' is a column of every dimension",
        ),
        (
            STAR,
            "    measures: [quantity,",
            "    measures: [quantity, quantity,",
            "facts[fact_sales].measures: columns named twice: quantity: keep one of them",
        ),
        (
            STAR,
            "    measures: [quantity,",
            "    dates: {basket_id: transaction_timestamp}\n    measures: [quantity,",
            "facts[fact_sales].columns: columns named twice: basket_id (dates has it too): keep",
        ),
        (BASE, '"0 2 * * *"', '"0 25 * * *"', "schedule.cron: '0 25 * * *': '25' is none of 0 to"),
        (
            BASE,
            "schedule:",
            "maintenance: {cron: nightly}\nschedule:",
            "maintenance.cron: 'nightly'",
        ),
        (SOURCE, PATH, PATH + "\n      format: {null_texts: NULL}", "as no value: write ['NULL']"),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: {null_texts: [NULL]}",
            "is empty: drop the entry, or",
        ),
        (SOURCE, PATH, PATH + "\n      format: {delimiter: ,}", "the end of the value: write ','"),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: {header: 0}",
            "header: 0: must be true or false, not",
        ),
        (SOURCE, PATH, PATH + "\n      format: {quote: none}", "not 4; write null for none"),
        (SOURCE, PATH, PATH + "\n      format: {quote: ''}", "must be one sign, or null for none"),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: csv",
            "must be keys and values: its keys are bad_by",
        ),
        (SOURCE, PATH, PATH + "\n      delimiter: ';'", "exists here: it belongs into `format`"),
        (SOURCE, PATH, "path: transactions-%Y-%m-%d.csv", "it is no date: write {date:%Y-%m-%d}"),
        (
            SOURCE,
            PATH,
            PATH.replace("%Y-%m-%d", "%Y-%W"),
            "no date names a week: name one of its da",
        ),
        (SOURCE, '"decimal(12,2)"', "decimal(12,2)", 'ends a value there: write "decimal(10,2)"'),
        (
            SOURCE,
            "connector: files",
            "connector: csv",
            "files, parquet_files, postgres, mysql, rest, mongodb; did you mean files?",
        ),
        (SOURCE, "mode: files\n", "mode: [files]\n", "mode: must be one of files, not a list"),
        (
            SOURCE,
            "key: [store_id]",
            "key:",
            "yaml:73: entities[stores].key: is empty: give it a val",
        ),
        (SOURCE, "key: [store_id]", "key: [[store_id]]", "key[0]: must be one text, not a list"),
        (SOURCE, "key: [store_id]", "key: [StoreId]", "_source_position; did you mean store_id?"),
        (
            SOURCE,
            "rules:\n",
            "rules:\n      - quantity > 0\n",
            "must be keys and values: write {name: …, expect: quantity > 0, reason: …}",
        ),
        (
            SOURCE,
            "key: [store_id]",
            "key: [store_id]\n    rules: {named: region is not null}",
            "must be a list: write - {name: named, expect: region is not null, reason: …}",
        ),
        (
            STAR,
            "      brand: brand\n",
            "      brand: brandt\n",
            "yaml:29: dimensions[dim_product].attributes.brand: retail.products has no column",
        ),
        (
            STAR,
            "natural_key: {store_id: store_id}\n",
            "natural_key: store_id\n",
            "must be keys and values: write {store_id: store_id}",
        ),
        (
            STAR,
            "{dimension: dim_location, natural_key: {store_id: store_id}}",
            "{dimension: dim_location, natural_key: {id: store_id}}",
            "].natural_key: dim_location is joined on its whole natural key: write {store_id: …}",
        ),
        (
            STAR,
            "facts:\n",
            f"row_access: [{ACCESS.replace('store_id', 'stor_id')}]\nfacts:\n",
            "row_access[r].column: dim_location has no column 'stor_id'; did you mean store_id?",
        ),
        (
            STAR,
            "    grain: [",
            "    key: [",
            "key: is not a key that exists here; did you mean grai",
        ),
        (
            BASE,
            "schedule:",
            "lake: /data\nschedule:",
            "must be keys and values: write {uri: /data}",
        ),
        (BASE, '"0 2 * * *"', "daily", "needs five fields, minute hour day month weekday, and ha"),
        (SOURCE, "name: stores", "name: Stores", "'Stores' must be lower snake case"),
        (SOURCE, "name: stores", "name: no", "false: must be text: put it in quotes"),
        (
            SOURCE,
            "name: stores\n",
            "name: households\n",
            "yaml:70: entities[3].name: 'households' is declared twice",
        ),
        (
            SOURCE,
            "{name: store_name,",
            "{name: store_id,",
            "yaml:76: entities[stores].columns[1].name: 'store_id' is declared twice",
        ),
        (
            SOURCE,
            "name: quantity_not_negative\n",
            "name: units_where_money\n",
            "yaml:32: entities[transactions].rules[1].name: 'units_where_money' is declared twice",
        ),
        (
            SOURCE,
            "event_time: transaction_timestamp",
            "event_time: transaction_time",
            "yaml:13: entities[transactions].event_time: transaction_time: not among the columns",
        ),
        (
            SOURCE,
            "event_time: transaction_timestamp",
            "event_time: week",
            "yaml:13: entities[transactions].event_time: 'week' says the day, and is no date or",
        ),
        (
            SOURCE,
            "key: [store_id]",
            "key: store_id",
            "'store_id': must be a list: write [store_id]",
        ),
        (
            SOURCE,
            "{name: store_id, type: bigint, description: The store.}\n      - {name: store_name",
            "store_id: bigint\n      - {name: store_name",
            "[stores].columns[0]: must have keys: write {name: store_id, type: bigint}",
        ),
        (
            SOURCE,
            "{name: store_name, type: string",
            "{name: store_name, type: string, from: ''",
            "columns[store_name].from: must not be empty",
        ),
        (
            SOURCE,
            "key: [store_id]",
            "key: [store_id]\n    timezone: CEST",
            "yaml:74: entities[stores].timezone: 'CEST': is not a time zone's name, such as Europe",
        ),
        (
            SOURCE,
            'closed_on: ["12-25"]',
            'closed_on: ["13-25"]',
            "extract.closed_on[0]: '13-25' must be a date, such as 2024-12-25, or a month and day",
        ),
        (
            SOURCE,
            'closed_on: ["12-25"]',
            "expected_by: '25:00'",
            "extract.expected_by: '25:00' must be a time of day, such as 06:00",
        ),
        (
            SOURCE,
            "connector: files\n",
            "connector: files\nowners: [bob]\n",
            "owners[0]: 'bob' must be an address, such as ann@example.com, or team:name",
        ),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: {delimiter: tab}",
            "extract.format.delimiter: 'tab': must be the sign itself",
        ),
        (
            SOURCE,
            PATH,
            PATH + "\n      format: {delimiter: '\\t'}",
            'in quotes like "\\t" it is a sign',
        ),
        (SOURCE, PATH, PATH.replace(" tr", " C:/tr"), "below the landing zone (`landing.uri`)"),
        (
            BASE,
            "schedule:",
            "landing: {uri: 'ftp://x'}\nschedule:",
            "'ftp://x': must be a folder or",
        ),
        (
            STAR,
            "natural_key: {store_id: store_id}\n",
            "natural_key: [store_id]\n",
            "natural_key: must be keys and values: write {store_id: store_id}",
        ),
        (
            STAR,
            "    columns: [basket_id",
            "    dates: {week_key: week}\n    columns: [basket_id",
            "facts[fact_sales].dates.week_key: 'week' of retail.transactions is a int, not a date",
        ),
        (
            SOURCE,
            "extract: {mode: files, path",
            "extract: {mode: files, pathe",
            "entities[products].extract.pathe: is not a key that exists here; did you mean path?",
        ),
        (STAR, "end: 2018-12-31", "end: 2016-12-31", "calendar.end: 2016-12-31 lies before start"),
        (
            STAR,
            "start: 2017-01-01, end: 2018-12-31",
            "start: 2017-02-01, end: 2017-12-31",
            "star.yaml:2: calendar.start: 2017-02-01 lies after partitions.start, 2017-01-01",
        ),
        (STAR, "end: 2018-12-31", "end: 9999-12-31", "9999-12-31: more than 400 years"),
        (
            STAR,
            "facts:\n",
            f"row_access: [{ACCESS}]\nfacts:\n",
            "row_access[r].values: 'x' is no bigint, as store_id is",
        ),
        (
            STAR,
            "grain: [household_id, basket_id",
            "grain: [household_id, basket",
            "facts[fact_sales].grain: retail.transactions has no column 'basket'; did you mean b",
        ),
        (STAR, "end: 2018-12-31", "end: 2017-12-31", "lies before partitions.end, 2018-01-02"),
        (
            STAR,
            "name: dim_product",
            "name: dim_customer",
            "star.yaml:18: dimensions[1].name: 'dim_customer' is the name of dimensions[0] too",
        ),
        (STAR, "name: fact_sales", "name: dim_date", "'dim_date' is the name of calendar too"),
        (
            STAR,
            "columns: [basket_id, transaction_timestamp]\n    measures: [",
            "columns: [basket_id]\n    measures: [transaction_timestamp, ",
            "'transaction_timestamp' of retail.transactions is of type timestamp: measures are",
        ),
        (
            STAR,
            "    grain: [",
            "    calendar: dim_day\n    grain: [",
            "calendar: is not a key that",
        ),
        (
            STAR,
            "unknown: {department: Unknown}",
            "unknown: {manufacturer_id: Unknown}",
            "dimensions[dim_product].unknown.manufacturer_id: 'Unknown' is no bigint",
        ),
        (
            STAR,
            "entity: retail.stores",
            "entity: retail.store",
            "retail.households, retail.stores; did you mean retail.stores?",
        ),
        (
            STAR,
            "dimension: dim_location, natural",
            "dimension: dim_locaton, natural",
            "did you mean dim_location?",
        ),
        (
            STAR,
            "dimensions:\n",
            "dimensions: []\nfacts: []\ndimensions:\n",
            "given twice, in line 3",
        ),
        (
            BASE,
            "schedule:",
            "partitions:\n  start: 2017-01-01\nschedule:",
            "'partitions' is given tw",
        ),
    ],
)
def test_a_mistake_is_refused_with_its_place_and_the_way_out(
    folder: Path, file: str, old: str, new: str, expected: str
) -> None:
    edit(folder / file, (old, new))
    assert [line for line in faults(folder) if expected in line]


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            SOURCE,
            "    key: [store_id]",
            "   key: [store_id]",
            "yaml:73: not YAML: this line fits",
        ),
        (
            SOURCE,
            "    key: [store_id]",
            "\tkey: [store_id]",
            "yaml:73: not YAML: nothing may",
        ),
        (
            SOURCE,
            "key: [store_id]",
            "key: [store_id",
            "yaml:74: not YAML: a ], a }, a comma or quotes",
        ),
        (
            SOURCE,
            "key: [store_id]",
            'key: ["store_id]',
            "the quote that opens in line 73 is not closed",
        ),
        (
            SOURCE,
            "key: [store_id]",
            "key: !env KEY",
            "yaml:73: not YAML: '!env' means nothing here",
        ),
        (SOURCE, "_share: 0.01", "_share: 0,01", "yaml:35: not YAML: '01' is no key here"),
        (SOURCE, "key: [store_id]", "on: [store_id]", "yaml:73: not YAML: 'on' is no key here"),
        (
            SOURCE,
            "    key: [store_id]",
            "    key:[store_id]",
            "a colon with a blank after it is mis",
        ),
        (SOURCE, "  - name: stores", "  name: stores", "not YAML: "),
        (BASE, '"0 2 * * *"', "* * * * *", "a text that begins with * or & needs quotes"),
        (BASE, "start: 2017-01-01", "start: 2017-02-30", "no such value: day is out of range"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(
    folder: Path, file: str, old: str, new: str, expected: str
) -> None:
    edit(folder / file, (old, new))
    assert [line for line in faults(folder) if expected in line]


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "sources")
    (folder / "star.yaml").unlink()
    (folder / "star.yaml").mkdir()
    assert faults(folder) == [
        "sources: no source is here",
        "star.yaml: cannot be read: Is a directory",
    ]
    (folder / "star.yaml").rmdir()
    (folder / "star.yaml").symlink_to("star.yaml")
    assert "star.yaml: cannot be read: Too many levels of symbolic links" in faults(folder)
    (folder / "star.yaml").unlink()
    (folder / "star.yaml").write_text("a: " + "[" * 3_000 + "]" * 3_000)
    assert "star.yaml: nested too deeply" in faults(folder)


@pytest.mark.parametrize(
    ("text", "expected"), [("", "is empty"), ("- name: x\n", "not a list"), ("x\n", "not one text")]
)
def test_a_file_without_keys_is_one_line(folder: Path, text: str, expected: str) -> None:
    (folder / SOURCE).write_text(text)
    (line,) = faults(folder)
    assert line.endswith(expected)


VALUES = (None, True, 1, "", ["x"], [None], {"x": None})


def _places(document: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if above:
        yield above
    if isinstance(document, dict | list):
        for part in document if isinstance(document, dict) else range(len(document)):
            yield from _places(document[part], (*above, part))


@pytest.mark.parametrize(
    ("file", "model"), [(SOURCE, source_model({"connector": "files"})), (STAR, StarConfig)]
)
def test_any_value_at_any_place_is_taken_or_explained(file: str, model: type[StrictModel]) -> None:
    document = yaml.safe_load((CONFIG / file).read_text())
    if "entities" in document:
        document["entities"] = document["entities"][:1]
    for *above, last in list(_places(document)):
        for value in VALUES:
            changed = copy.deepcopy(document)
            at = changed
            for part in above:
                at = at[part]
            at[last] = value
            try:
                model.model_validate(changed)
            except ValidationError as error:
                said = [fault.what for fault in faults_in(error, changed, model)]
                assert said
                assert not any("None" in what or "Input should" in what for what in said), said


def test_two_entities_may_not_share_a_table(folder: Path) -> None:
    text = (folder / SOURCE).read_text()
    (folder / "sources/other.yaml").write_text(text.replace("name: retail", "name: retail_b", 1))
    (folder / SOURCE).write_text(text.replace("name: stores", "name: b_stores"))
    edit(folder / STAR, ("entity: retail.stores", "entity: retail.b_stores"))
    both = "retail.b_stores and retail_b.stores would share the table retail_b_stores"
    assert faults(folder) == [
        f"sources/retail.yaml:70: entities[b_stores].name: {both}: rename one of them"
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sources/other.yml", "sources/other.yml: nothing reads this file: call it other.yaml"),
        ("sources/shop/orders.yaml", "nothing reads this file: only sources/*.yaml is read"),
        ("star.yml", "star.yml: nothing reads this file; did you mean star.yaml?"),
        ("views/Sales-a-Day.sql", "nothing reads this file: a view's name is lower snake case"),
        ("prodution.yaml", "nothing reads this file; did you mean production.yaml?"),
    ],
)
def test_a_file_that_nothing_reads_is_named(folder: Path, name: str, expected: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("name: other\n")
    assert [line for line in faults(folder) if expected in line]


def test_one_mistake_is_one_line(folder: Path) -> None:
    """No union's other members, no list that only lacks its one wrong entry, no missing key."""
    edit(
        folder / STAR,
        ("  - name: fact_sales\n", "  - nam: fact_sales\n"),
        ("unknown: {department: Unknown}", "unknown: {department: [Unknown]}"),
        ("dimension: dim_location, natural", "dimensions: dim_location, natural"),
        ("measures: [quantity,", "measures: [Quantity,"),
    )
    lines = faults(folder)
    assert [line.split(": ")[1] for line in lines] == [
        "dimensions[dim_product].unknown.department",
        "facts[0].dimensions[2].dimensions",
        "facts[0].measures[0]",
        "facts[0].nam",
    ]
    assert lines[3].endswith("is not a key that exists here; did you mean name?")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (SOURCE, PATH, PATH + "\n      format: {footer: -1}"),
        (SOURCE, PATH, PATH + "\n      format: {footer: ''}"),
        (SOURCE, PATH, PATH + "\n      format: {footer: 1.5}"),
        (SOURCE, PATH, PATH + "\n      format: {header: flase}"),
        (SOURCE, PATH, PATH + "\n      format: {header: {id: 1}}"),
        (STAR, "unknown: {department: Unknown}", "unknown: 5"),
        (STAR, "unknown: {department: Unknown}", "unknown: true"),
        (STAR, "unknown: {department: Unknown}", "unknown: {department: 1.5}"),
    ],
)
def test_a_value_of_no_type_of_a_union_is_one_line(
    folder: Path, file: str, old: str, new: str
) -> None:
    edit(folder / file, (old, new))
    (line,) = faults(folder)
    assert "constrained" not in line
    assert "None" not in line


@pytest.mark.parametrize(
    "url", ["postgresql://u:canary@host/db", "{env: 'postgresql://u:canary@host/db'}", "[canary]"]
)
def test_a_secret_that_is_written_into_the_configuration_is_not_shown(
    folder: Path, url: str
) -> None:
    edit(folder / BASE, ("schedule:", f"warehouse: {{url: {url}}}\nschedule:"))
    (line,) = faults(folder)
    assert "warehouse.url" in line
    assert "must be {env: NAME}" in line
    assert "canary" not in line


def test_a_fault_of_an_overlay_is_named_with_the_overlays_line(folder: Path) -> None:
    edit(folder / "development.yaml", ("end: 2018-01-02", "end: soon"))
    assert faults(folder)[0].startswith("development.yaml:4: partitions.end: 'soon': ")


@pytest.mark.parametrize("line", ["*/5 * * * *", "0 2 1-7,15 * mon-fri", "30 6 * JAN,jul 0/2"])
def test_every_form_of_a_cron_line_is_taken(line: str) -> None:
    assert ScheduleSettings(cron=line).cron == line
