"""Reports of an assessment: Markdown, and HTML with small charts in SVG; no personal values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from headrace.assess.name_words import is_identifier
from headrace.assess.profile import ColumnProfile
from headrace.assess.proposal import Proposal, counted
from headrace.assess.sample_source import TableStatistics
from headrace.assess.source_yaml import evidence_of

# Values are shown where there are few, so that no person is among them.
_MOST_SHOWN, _LONGEST_SHOWN = 50, 40
_NUMBERS = ("int", "bigint", "double", "decimal")
_MUCH_PADDED, _UNUSUAL_DAY = 0.01, 3.0
_BAR, _HEIGHT, _WIDTH = 12, 60, 240
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;text-align:left;
border-bottom:1px solid #ddd;vertical-align:top}th{color:#555;font-weight:600}
code{background:#f3f3f3;padding:0 .2em}svg rect{fill:#4878a8}svg .rest{fill:#e6e6e6}
svg text{font:10px system-ui,sans-serif;fill:#555}.check{color:#a33}.n{text-align:right}
"""


@dataclass(frozen=True)
class AssessedEntity:
    """An entity with what is proposed for it and what its source says of its size."""

    proposal: Proposal
    statistics: TableStatistics


def anomalies(proposal: Proposal) -> Iterator[str]:
    """What is unusual about the rows, one sentence each, without values."""
    profile = proposal.profile
    yield from proposal.found.problems
    for reason, count in profile.corrupt.items():
        yield f"{counted(count, 'corrupt record')}: {reason}"
    if profile.repeated:
        yield f"{counted(profile.repeated, 'repeated row')}: equal in every column within a day"
    for name, column in profile.columns.items():
        yield from (f"{name}: {what}" for what in _unusual_values(proposal, name, column))
    yield from _unusual_days(proposal)


def _unusual_values(proposal: Proposal, name: str, column: ColumnProfile) -> Iterator[str]:
    if doubt := proposal.doubts.get(name):
        yield doubt
    if not column.given:
        yield "has no value in the sample"
    elif column.distinct == 1 and column.rows > 1:
        yield "has the same value in each row that has one"
    if column.padded > _MUCH_PADDED * column.rows:
        yield f"{counted(column.padded, 'text')} with blanks around, which are dropped"
    if column.outliers and not is_identifier(name):
        yield f"{counted(column.outliers, 'value')} far from the others"


def markdown_report(name: str, title: str, entities: Sequence[AssessedEntity]) -> str:
    """The report as Markdown."""
    lines = [f"# Assessment of {name}", "", f"Source: {title}", ""]
    for entity in entities:
        proposal = entity.proposal
        lines += [f"## {proposal.found.name}", ""]
        lines += [f"- {label}: {text}" for label, text in _facts(entity)]
        lines += ["", "| column | type | NULL | different | values |", "|---|---|---:|---:|---|"]
        for column in proposal.columns:
            cells = _cells(proposal, column)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        found = [*anomalies(proposal)]
        lines += ["", "Anomalies:", "", *(f"- {text}" for text in found or ["none"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def html_report(name: str, title: str, entities: Sequence[AssessedEntity]) -> str:
    """The report as one HTML file that needs nothing else."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>Assessment of {escape(name)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Assessment of {escape(name)}</h1><p>Source: {escape(title)}</p>",
    ]
    for entity in entities:
        parts += _html_entity(entity)
    return "\n".join([*parts, "</body></html>\n"])


def _html_entity(entity: AssessedEntity) -> Iterator[str]:
    proposal = entity.proposal
    yield f"<h2>{escape(proposal.found.name)}</h2><table>"
    for label, text in _facts(entity):
        yield f"<tr><th>{escape(label)}</th><td>{escape(text)}</td></tr>"
    yield "</table>"
    if days := proposal.profile.rows_by_day:
        counts = [(day.isoformat(), n) for day, n in sorted(days.items())]
        yield f"<p>Rows sampled by day of file</p>{_bars(counts, width=720)}"
    yield "<table><tr><th>column</th><th>type</th><th>missing</th><th class='n'>different</th>"
    yield "<th>values</th><th>distribution</th></tr>"
    for name in proposal.columns:
        column = proposal.profile.columns[name]
        shown, kind, nulls, distinct, values = map(escape, _cells(proposal, name))
        chart = _distribution(proposal, name, column)
        yield (
            f"<tr><td><code>{shown}</code></td><td>{kind}</td>"
            f"<td>{_share(proposal.null_share(name))} {nulls}</td><td class='n'>{distinct}</td>"
            f"<td>{values}</td><td>{chart}</td></tr>"
        )
    yield "</table>"
    found = [*anomalies(proposal)]
    yield "<h3>Anomalies</h3><ul>"
    yield from (f"<li class='check'>{escape(text)}</li>" for text in found)
    yield "</ul>" if found else "<li>none</li></ul>"


def _facts(entity: AssessedEntity) -> Iterator[tuple[str, str]]:
    proposal, statistics = entity.proposal, entity.statistics
    profile = proposal.profile
    yield "found", "; ".join(proposal.found.evidence)
    size = statistics.size_bytes
    if size is not None:
        yield "size", f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size:,} bytes"
    if statistics.rows is not None:
        yield "rows", f"{statistics.rows:,}"
    corrupt = sum(profile.corrupt.values())
    yield "sample", f"{counted(profile.rows, 'row')}, {counted(corrupt, 'corrupt record')}"
    yield "repeated rows", f"{profile.repeated:,}"
    yield "key", f"{', '.join(proposal.key)}: {proposal.key_evidence}"
    if proposal.capture:
        yield "mode", f"{proposal.capture.mode}: {'; '.join(proposal.capture.evidence)}"
    if proposal.event_time:
        yield "event time", f"{proposal.event_time}: {proposal.event_time_evidence}"
    if proposal.partition_by:
        yield "partition", f"the day of {proposal.partition_by}: {proposal.partition_evidence}"
    for note in proposal.notes:
        yield "note", note


def _cells(proposal: Proposal, name: str) -> tuple[str, str, str, str, str]:
    """Name, type, share of NULL, different values and what the values are like."""
    column = proposal.profile.columns[name]
    kind = str(proposal.columns[name]["type"])
    personal = proposal.personal.get(name)
    what = f"personal data: {personal.kind}" if personal else ""
    if what or not _is_shown(proposal, name):
        shapes = ", ".join(shape for shape, _ in column.patterns[:3])
        values = "; ".join(filter(None, (what, f"such as {shapes}" if shapes else "")))
    elif kind == "string":
        values = ", ".join(f"{text} ({n:,})" for text, n in column.top[:5])
    else:
        values = evidence_of(proposal, name).partition(" different, ")[2]
    return name, kind, f"{proposal.null_share(name):.1%}", f"{column.distinct:,}", values


def _is_shown(proposal: Proposal, name: str) -> bool:
    """Whether values of a column may be shown: few different ones, or numbers and times."""
    column = proposal.profile.columns[name]
    if name in proposal.personal or is_identifier(name):
        return False
    if proposal.columns[name]["type"] != "string":
        return True
    is_few = column.distinct <= _MOST_SHOWN and column.distinct * 2 <= column.given
    return is_few and column.longest <= _LONGEST_SHOWN


def _unusual_days(proposal: Proposal) -> Iterator[str]:
    """Days of files with far fewer or more rows than the middle half of the days."""
    counts = sorted(proposal.profile.rows_by_day.values())
    if len(counts) < 8:  # noqa: PLR2004
        return
    low, high = counts[len(counts) // 4], counts[3 * len(counts) // 4]
    reach = max(high - low, 1) * _UNUSUAL_DAY
    least, most = low - reach, high + reach
    days = [day for day, n in proposal.profile.rows_by_day.items() if not least <= n <= most]
    if days:
        named = ", ".join(day.isoformat() for day in sorted(days)[:5])
        yield f"{len(days)} days have an unusual number of rows: {named}"


def _distribution(proposal: Proposal, name: str, column: ColumnProfile) -> str:
    if not _is_shown(proposal, name):
        return ""
    if column.bins:
        return _bars(column.bins)
    return _bars(column.top) if column.top else ""


def _share(share: float) -> str:
    full = 60
    return (
        f"<svg width='{full}' height='8' role='img' aria-label='{share:.1%} missing'>"
        f"<rect class='rest' width='{full}' height='8'/>"
        f"<rect width='{share * full:.1f}' height='8'/></svg>"
    )


def _bars(counts: Sequence[tuple[str, int]], width: int = _WIDTH) -> str:
    """A small bar chart; a bar's title has its label and count."""
    most = max((n for _, n in counts), default=1) or 1
    step = width / max(len(counts), 1)
    bars = "".join(
        f"<rect x='{i * step:.1f}' y='{_HEIGHT - _HEIGHT * n / most:.1f}' "
        f"width='{max(min(step - 1, _BAR * 2), 0.5):.1f}' height='{_HEIGHT * n / most:.1f}'>"
        f"<title>{escape(label)}: {n:,}</title></rect>"
        for i, (label, n) in enumerate(counts)
    )
    return f"<svg width='{width}' height='{_HEIGHT + 2}' role='img'>{bars}</svg>"


def personal_columns(entities: Sequence[AssessedEntity]) -> Mapping[str, str]:
    """Classes of personal data by `entity.column`."""
    return {
        f"{e.proposal.found.name}.{name}": data.kind
        for e in entities
        for name, data in e.proposal.personal.items()
    }
