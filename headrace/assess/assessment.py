"""Assesses a source: sample, types, profile, proposals, and the texts that come of it."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace import progress
from headrace.assess.profile import Sample, connect_beside_duckdb
from headrace.assess.proposal import STEPS, Proposal, propose, with_problems
from headrace.assess.relations import note_relations
from headrace.assess.report import AssessedEntity, html_report, markdown_report, personal_columns
from headrace.assess.sample_source import SampleSource
from headrace.assess.source_yaml import source_yaml
from headrace.config.loader import load_source
from headrace.errors import ConfigError


@dataclass(frozen=True)
class Assessment:
    """What is proposed for a source.

    Attributes:
        name: The source's.
        yaml: Text of its file below `config/sources`, less the line of its schema.
        markdown: The report.
        html: The same with charts.
        entities: Names of its entities.
        columns: How many columns they have.
        checks: What somebody has to decide, by `entity.column` or entity.
        personal: Classes of personal data by `entity.column`.
    """

    name: str
    yaml: str
    markdown: str
    html: str
    entities: tuple[str, ...]
    columns: int
    checks: tuple[str, ...]
    personal: tuple[str, ...]


def assess(source: SampleSource, name: str, sample_rows: int) -> Assessment:
    """Propose the configuration of a source.

    Args:
        source: What is sampled.
        name: What the source is called.
        sample_rows: The most rows of an entity that are looked at.

    Raises:
        ConfigError: No entity has a row.
    """
    spark = connect_beside_duckdb()
    head = {"connector": source.connector, **source.options}
    proposals: dict[str, tuple[Proposal, Sample]] = {}
    assessed: list[AssessedEntity] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="headrace-assess-") as folder:
        try:
            for entity in source.list_entities():
                progress.report(entity.name, 0, STEPS)
                place = Path(folder) / entity.name
                place.mkdir()
                sample = Sample(place, entity, source.sample_rows(entity, sample_rows))
                problems = source.problems_of(entity)
                if not sample.rows:
                    why = f": {problems[0]}" if problems else ""
                    notes.append(f"{entity.name} is left out, since no row of it can be read{why}")
                    continue
                proposal = with_problems(propose(spark, head, entity, sample), problems)
                proposals[entity.name] = (proposal, sample)
                progress.report(entity.name, STEPS, STEPS)
            note_relations(proposals)
            for proposal, _ in proposals.values():
                assessed.append(AssessedEntity(proposal, source.statistics(proposal.found)))
        finally:
            for _, sample in proposals.values():
                sample.close()
    notes = [*source.notes, *notes]
    if not assessed:
        raise ConfigError(
            f"{source.title}: no row can be read: {'; '.join(notes)}",
            fix="correct what hinders it, or declare the source by hand: docs/how-to",
        )
    return _written(source, name, assessed, notes)


def _written(
    source: SampleSource, name: str, assessed: Sequence[AssessedEntity], notes: Sequence[str]
) -> Assessment:
    found = [entity.proposal for entity in assessed]
    head = {
        "name": name,
        "connector": source.connector,
        **source.options,
        "description": source.description,
    }
    text = source_yaml(head, found, notes)
    _require_valid(text, name)
    checks = [*notes]
    for proposal in found:
        checks += [f"{proposal.found.name}: {problem}" for problem in proposal.found.problems]
        checks += [f"{proposal.found.name}.{n}: {doubt}" for n, doubt in proposal.doubts.items()]
    return Assessment(
        name=name,
        yaml=text,
        markdown=markdown_report(name, source.title, assessed),
        html=html_report(name, source.title, assessed),
        entities=tuple(proposal.found.name for proposal in found),
        columns=sum(len(proposal.columns) for proposal in found),
        checks=tuple(checks),
        personal=tuple(f"{c}: {kind}" for c, kind in personal_columns(assessed).items()),
    )


def _require_valid(text: str, name: str) -> None:
    """Read the text as `headrace check` will; what it refuses is a defect of this package."""
    with tempfile.TemporaryDirectory(prefix="headrace-assess-") as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        load_source(path)
