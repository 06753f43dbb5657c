"""A dbt project with marts by day, week, month, quarter and year, and others."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

from tests.marts.star import Rows, Sale

UNITS: dict[str, Callable[[date], date]] = {
    "day": lambda day: day,
    "week": lambda day: day - timedelta(days=day.isoweekday() - 1),
    "month": lambda day: date(day.year, day.month, 1),
    "quarter": lambda day: date(day.year, (1, 4, 7, 10)[(day.month - 1) // 3], 1),
    "year": lambda day: date(day.year, 1, 1),
}
BY_UNIT = """{{{{ config(meta={{'window': {{'column': 'starts_on', 'grain': '{unit}'}}}}) }}}}
select date_trunc('{unit}', dates.date)::date as starts_on, count(*) as lines
from {{{{ ref('stg_warehouse__sales') }}}} as sales
inner join {{{{ ref('stg_warehouse__dates') }}}} as dates on sales.date_key = dates.date_key
where {{{{ in_build('dates.date') }}}}
group by date_trunc('{unit}', dates.date)
"""
WHOLE = "select count(*) as lines from {{ ref('stg_warehouse__sales') }}"
# Reads other marts, one of them by column and one from a view.
ABOVE = """{{ config(materialized='table') }}
select months.starts_on, months.lines, weeks.lines as all_lines
from {{ ref('mart_month') }} as months cross join {{ ref('all_weeks') }} as weeks"""
# Sums by month, and says that it replaces days.
MISSES_GRAIN = BY_UNIT.format(unit="month").replace(", 'grain': 'month'", "")
VIEW = """{{ config(materialized='view') }}
select sum(lines)::bigint as lines from {{ ref('mart_week') }}"""


def write(folder: Path, project: Path) -> Path:
    """A copy of a project with these marts, whose columns no contract declares."""
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("target", "logs"))
    for name in ("marts", "intermediate"):
        shutil.rmtree(folder / "models" / name)
    marts = folder / "models" / "marts"
    marts.mkdir()
    by_unit = {f"mart_{unit}": BY_UNIT.format(unit=unit) for unit in UNITS}
    above = {"mart_whole": WHOLE, "all_weeks": VIEW, "mart_above": ABOVE}
    others = {"misses_grain": MISSES_GRAIN, "tested": BY_UNIT.format(unit="month")}
    for name, text in {**by_unit, **above, **others}.items():
        (marts / f"{name}.sql").write_text(text)
    (marts / "_marts.yml").write_text(_tests())
    settings = folder / "dbt_project.yml"
    without = settings.read_text().replace(
        "contract: {enforced: true}", "contract: {enforced: false}"
    )
    settings.write_text(without)
    return folder


def _tests() -> str:
    """A test of each mart's key; one names another window than its mart."""
    named = [_key(f"mart_{unit}", "{columns: [starts_on]}") for unit in UNITS]
    other = _key("tested", "{columns: [starts_on], window: {column: starts_on, grain: day}}")
    return "version: 2\nmodels:\n" + "".join([*named, other])


def _key(name: str, arguments: str) -> str:
    return (
        f"  - name: {name}\n    data_tests:\n"
        f"      - is_key: {{name: {name}_key, arguments: {arguments}}}\n"
    )


def expected(sales: Sequence[Sale]) -> dict[str, Rows]:
    """What the marts hold after these sales."""
    found: dict[str, Rows] = {
        f"mart_{unit}": {*Counter(start(sale.day) for sale in sales).items()}
        for unit, start in UNITS.items()
    }
    months = found["mart_month"]
    above: Rows = {(*row, len(sales)) for row in months}
    return {
        **found,
        "mart_whole": {(len(sales),)},
        "all_weeks": {(len(sales),)},
        "mart_above": above,
    }
