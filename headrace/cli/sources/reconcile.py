"""`headrace reconcile`: compare raw with tables of databases, and repair it."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict

from headrace.cli.output import print_json, print_table, progress_bars, say, warn
from headrace.cli.sources.entities import chosen_entities
from headrace.config.loader import load_project
from headrace.operations.reconcile import Reconciliation, reconcile
from headrace.project.home_lock import using
from headrace.project.home_setup import prepare_home


def run_reconcile(
    source: str, entity: str | None, *, repair: bool, quiet: bool
) -> list[Reconciliation]:
    """Compare the tables of a source, or one of them, with raw.

    Args:
        source: A source, or `source.entity`.
        entity: An entity of the source; None: all tables.
        repair: Whether to capture again what differs.
        quiet: Show no progress bars.
    """
    project = load_project()
    names = [*chosen_entities(project, source, entity)]
    with using(project.home, "command", "headrace reconcile"):
        prepare_home(project)
        with nullcontext() if quiet else progress_bars():
            return reconcile(project, names, repair=repair)


def exit_code(found: Sequence[Reconciliation]) -> int:
    """0: nothing differs, or all is repaired; 1: rows differ; 3: some could not be compared."""
    if any(one.error is None and not one.is_good for one in found):
        return 1
    return 0 if all(one.is_good and one.is_captured for one in found) else 3


def print_reconciliation(found: Sequence[Reconciliation], *, as_json: bool) -> None:
    """Print one line a table, then the ranges of the rows that differ."""
    if as_json:
        print_json([{"equal": one.is_equal, **asdict(one)} for one in found])
        return
    columns = ("entity", "is", "rows", "missing", "changed", "extra", "waiting")
    rows = [
        (one.entity, _state(one), one.rows, one.missing, one.changed, one.extra, one.waiting)
        for one in found
    ]
    print_table(columns, rows)
    ranges = [
        (
            one.entity,
            part.partition or "",
            "" if part.first is None else part.first,
            "" if part.last is None else part.last,
            part.missing,
            part.changed,
            part.extra,
        )
        for one in found
        for part in one.ranges
    ]
    if ranges:
        names = ("entity", "partition", "first key", "last key", "missing", "changed", "extra")
        print_table(names, ranges, "rows that differ")
    for one in found:
        if one.error is not None:
            say(one.entity, "red", f": {one.error}")
        if one.repeated:
            warn(f"{one.entity}: {one.repeated} rows have a key of another row: not compared")
    if any(one.repaired for one in found):
        say("repaired in raw; headrace backfill --stale builds from it what is downstream", "green")
    elif any(not one.is_equal for one in found):
        say("with --repair, these rows are captured again")


def _state(one: Reconciliation) -> str:
    if one.error is not None:
        return "failed"
    if not one.is_captured:
        return "never captured"
    if one.is_equal:
        return "equal"
    return "repaired" if one.repaired else "differs"
