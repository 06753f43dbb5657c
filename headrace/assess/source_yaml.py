"""Writes proposals as a source's YAML file, with the evidence as comments."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from headrace.assess.name_words import is_identifier
from headrace.assess.proposal import Proposal, Rule

_WIDTH = 100
_SCHEMA = Path(__file__).parents[2] / "docs/reference/schemas/source.json"
# What stands on a line of its own, in this order.
_EXTRACT = ("mode", "path", "table", "cursor", "overlap", "partition_by", "format")


def source_yaml(
    source: Mapping[str, Any], proposals: Sequence[Proposal], notes: Sequence[str]
) -> str:
    """The text of a source's file, less the line that names its schema (`schema_line`).

    Args:
        source: What it has besides its entities, in this order.
        proposals: Its entities.
        notes: What the reader has to do.
    """
    lines = [
        "# Proposed by `headrace assess` from a sample. Comments say why; lines with CHECK need a",
        "# decision. Edit it, then run `headrace check`.",
        *(line for note in notes for line in comment(f"CHECK: {note}", 0)),
        *(f"{option}: {flow(value)}" for option, value in source.items()),
        "entities:",
    ]
    for number, proposal in enumerate(proposals):
        lines += [""] if number else []
        lines += _entity(proposal)
    return "\n".join(lines) + "\n"


def schema_line(target: Path) -> str:
    """The line by which editors find the JSON Schema of a source's file."""
    path = os.path.relpath(_SCHEMA, target.parent)
    return f"# yaml-language-server: $schema={Path(path).as_posix()}\n"


def _entity(proposal: Proposal) -> Iterator[str]:
    config, found = proposal.as_config(), proposal.found
    rows = f"{proposal.profile.rows:,} rows sampled"
    yield from comment("; ".join((*found.evidence, rows)), 2)
    for problem in found.problems:
        yield from comment(f"CHECK: {problem}", 2)
    yield f"  - name: {config['name']}"
    yield from _extract(proposal, config["extract"])
    for option, value in found.options.items():
        yield f"    {option}: {flow(value)}"
    yield from comment(proposal.key_evidence, 4)
    yield f"    key: {flow(config['key'])}"
    if proposal.event_time:
        yield from comment(proposal.event_time_evidence, 4)
        yield f"    event_time: {proposal.event_time}"
    for note in proposal.notes:
        yield from comment(note, 4)
    yield "    columns:"
    for column in config["columns"]:
        yield from _column(proposal, column)
    yield from _rules(proposal.rules)


def _extract(proposal: Proposal, extract: Mapping[str, Any]) -> Iterator[str]:
    yield "    extract:"
    for why in proposal.capture.evidence if proposal.capture else ():
        yield from comment(f"{why}.", 6)
    if proposal.partition_by:
        yield from comment(f"partition_by: {proposal.partition_evidence}", 6)
    for option in (*_EXTRACT, *(name for name in extract if name not in _EXTRACT)):
        if option in extract:
            yield f"      {option}: {flow(extract[option])}"


def _column(proposal: Proposal, column: Mapping[str, Any]) -> Iterator[str]:
    name = column["name"]
    if personal := proposal.personal.get(name):
        yield from comment(f"Personal data: {personal.kind} ({personal.evidence}).", 6)
    if doubt := proposal.doubts.get(name):
        yield from comment(f"CHECK: {doubt}.", 6)
    yield f"      - {flow(column)}  # {evidence_of(proposal, name)}"


def evidence_of(proposal: Proposal, name: str) -> str:
    """What a column's values are like, in one line; no values of personal data."""
    profile, choice = proposal.profile.columns[name], proposal.choices[name]
    if not profile.given:
        return "always NULL in the sample"
    share = proposal.null_share(name)
    said = [f"{share:.1%} NULL" if share else "never NULL"]
    said.append(f"{profile.distinct:,} different")
    if name in proposal.personal:
        return ", ".join(said)
    kind = proposal.columns[name]["type"]
    if kind not in ("string", "boolean") and not is_identifier(name):
        said.append(f"{profile.least} to {profile.largest}")
    said += [why for why in choice.evidence if " to " not in why]
    field = next(f for f in proposal.found.fields if f.name == name)
    said += [field.evidence] if field.evidence else []
    return ", ".join(said)


def _rules(rules: Sequence[Rule]) -> Iterator[str]:
    active = [rule for rule in rules if rule.is_active]
    if active:
        yield "    rules:"
    for rule in active:
        yield f"      - {flow(_rule(rule))}  # {rule.evidence}"
    suggested = [rule for rule in rules if not rule.is_active]
    if suggested:
        yield "    # Further rules, if no other values may come:"
        yield from ([] if active else ["    # rules:"])
    for rule in suggested:
        yield f"    #   - {flow(_rule(rule))}  # {rule.evidence}"


def _rule(rule: Rule) -> dict[str, str]:
    return {"name": rule.name, "expect": rule.expect, "reason": rule.reason}


def comment(text: str, indent: int) -> Iterator[str]:
    """Comment lines of at most a hundred characters; line ends in the text are blanks."""
    line = " " * indent + "#"
    for word in text.split():
        if len(line) + 1 + len(word) > _WIDTH and not line.endswith("#"):
            yield line
            line = " " * indent + "#"
        line += f" {word}"
    if not line.endswith("#"):
        yield line


class _Dumper(yaml.SafeDumper):
    """Writes texts that have a ' between double quotes: conditions stay readable."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = '"' if "'" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def flow(value: Any) -> str:
    """A value in YAML's flow style, on one line."""
    text = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=True,
        sort_keys=False,
        allow_unicode=True,
        width=10**9,
    )
    return text.removesuffix("...\n").strip()
