"""Proposes dimensions and facts for declared entities, as the text of star.yaml."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace import progress
from headrace.assess.name_words import is_identifier, is_rate
from headrace.assess.profile import Sample, connect_beside_duckdb
from headrace.assess.relations import DEPENDS, REFERRED, may_refer
from headrace.assess.source_yaml import comment, flow
from headrace.assess.star.declared_samples import DeclaredEntity, DeclaredSamples
from headrace.config.entities.columns import TIMES
from headrace.config.settings import PartitionSettings
from headrace.errors import ConfigError, HeadraceError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_NUMBERS = ("int", "bigint", "double", "decimal")
_OPERATIONS = {"i", "u", "d", "c", "r", "insert", "update", "delete", "create", "read"}
_DELETES = {"d", "delete"}
# Columns that every dimension has.
_TAKEN = {"valid_from", "valid_to", "is_current", "is_latest", "is_deleted", "is_inferred"}
_YEARS_AHEAD = 1


@dataclass
class _Studied:
    """An entity and what its sample shows.

    Attributes:
        measures: Numbers that are aggregated.
        time: The event time of its rows.
        members: The key without a time of change.
        references: By other entity, own columns to those of its key, and why.
        notes: For comments.
    """

    declared: DeclaredEntity
    sample: Sample | None = None
    measures: tuple[str, ...] = ()
    time: str | None = None
    members: tuple[str, ...] = ()
    references: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_fact(self) -> bool:
        """Whether its rows tell what happened: they have a time and something to aggregate."""
        return self.time is not None and bool(self.measures)

    @property
    def is_dimension(self) -> bool:
        """Whether its rows are states of things that columns identify."""
        return not self.is_fact and bool(self.members)


@dataclass(frozen=True)
class StarProposal:
    """The text of star.yaml, and what is in it."""

    yaml: str
    dimensions: tuple[str, ...]
    facts: tuple[str, ...]
    checks: tuple[str, ...]


def propose_star(
    samples: DeclaredSamples, partitions: PartitionSettings, rows: int
) -> StarProposal:
    """Propose the star of some declared entities.

    Args:
        samples: Reads their rows.
        partitions: The days that exist.
        rows: The most rows of an entity that are looked at.

    Raises:
        ConfigError: No entity has an event time and measures.
    """
    spark = connect_beside_duckdb()
    studied: dict[str, _Studied] = {}
    with tempfile.TemporaryDirectory(prefix="headrace-scaffold-") as folder:
        try:
            for number, declared in enumerate(samples.entities, start=1):
                place = Path(folder) / declared.name
                place.mkdir()
                studied[declared.name] = _study(spark, samples, declared, place, rows)
                progress.report("entities", number, len(samples.entities))
            _find_references(studied)
            for one in studied.values():
                _note_dependence(one, studied)
            _require_fact(studied)
            return _written(studied, partitions)
        finally:
            for one in studied.values():
                if one.sample is not None:
                    one.sample.close()


def _require_fact(studied: Mapping[str, _Studied]) -> None:
    if not any(one.is_fact for one in studied.values()):
        raise ConfigError(
            "no entity is a fact: none has both an event time and a number to aggregate",
            fix="declare event_time or partition_by of the entity with the events, or write "
            "star.yaml by hand: docs/how-to/change-the-star.md",
        )


def _study(
    spark: "SparkSession",
    samples: DeclaredSamples,
    declared: DeclaredEntity,
    folder: Path,
    rows: int,
) -> _Studied:
    entity, found = declared.entity, _Studied(declared)
    key = [name for name in entity.key if not name.startswith("_")]
    times = [name for name in key if entity.column(name).type in TIMES]
    extract = entity.extract
    cursor = getattr(extract, "cursor", None)
    day = extract.partition_by if extract.partition_by != cursor else None
    found.time = entity.event_time or day
    found.measures = tuple(
        column.name
        for column in entity.columns
        if column.kind in _NUMBERS
        and column.name not in entity.key
        and not is_identifier(column.name)
        and not is_rate(column.name)
    )
    if len(key) == len(entity.key):
        found.members = tuple(name for name in key if name not in times) or tuple(key)
    try:
        sample = samples.sample(declared, folder, rows)
        if sample.rows:
            plain = entity.model_copy(update={"lookups": (), "calculated": (), "transform": None})
            sample.type_rows(spark, plain)
            found.sample = sample
        else:
            sample.close()
            found.notes.append("no row of it was there to look at")
    except HeadraceError as error:
        found.notes.append(f"CHECK: not sampled: {error}; {error.fix}")
    return found


def _find_references(studied: Mapping[str, _Studied]) -> None:
    """Which columns hold the key of a dimension, by foreign keys or by the samples."""
    dimensions = {name: one for name, one in studied.items() if one.is_dimension}
    for name, one in studied.items():
        known: set[str] = set()
        for key in one.declared.references:
            other = dimensions.get(key.entity)
            if other is not None and {*key.keys} == {*other.members} and key.entity != name:
                pairs = dict(zip(key.keys, key.columns, strict=True))
                one.references.append((key.entity, pairs, "a foreign key"))
                known |= {*key.columns}
        for other_name, other in dimensions.items():
            if other_name == name or len(other.members) != 1 or one.sample is None:
                continue
            one.references += _measured(one, other_name, other, known)


def _measured(
    one: _Studied, name: str, other: _Studied, known: set[str]
) -> Iterator[tuple[str, dict[str, str], str]]:
    (key,) = other.members
    target = other.declared.entity.column(key)
    for column in one.declared.entity.columns:
        if column.name in known or one.sample is None or other.sample is None:
            continue
        own, there = {"name": column.name, "type": column.type}, {"name": key, "type": target.type}
        if not may_refer(own, there, other.declared.entity.name):
            continue
        share = one.sample.referred(column.name, other.sample, key)
        if share >= REFERRED:
            known.add(column.name)
            yield name, {key: column.name}, f"{share:.0%} of its values in the sample are there"


def _note_dependence(one: _Studied, studied: Mapping[str, _Studied]) -> None:
    """Note columns of a fact that depend on one of its identifiers, measured on the sample."""
    if one.sample is None or not one.is_fact:
        return
    entity = one.declared.entity
    texts = [c.name for c in entity.columns if c.type in ("string", "boolean")]
    referred = {tuple(pairs.values()): name for name, pairs, _ in one.references}
    for column in entity.columns:
        if not is_identifier(column.name) or [column.name] == [*one.members]:
            continue
        others = [name for name in texts if name != column.name and not is_identifier(name)]
        shares = one.sample.dependence(column.name, others)
        found = [name for name, share in shares.items() if share >= DEPENDS]
        if not found:
            continue
        share = min(shares[name] for name in found)
        what = f"{', '.join(found)}: one value for each {column.name} in {share:.0%} of them"
        if other := referred.get((column.name,)):
            one.notes.append(f"{what}; {_dimension_name(studied[other])} may have it")
        else:
            one.notes.append(
                f"{what}: an entity with key [{column.name}] would make a dimension of it"
            )


def _written(studied: Mapping[str, _Studied], partitions: PartitionSettings) -> StarProposal:
    facts = [one for one in studied.values() if one.is_fact]
    dimensions = [one for one in studied.values() if one.is_dimension]
    left = [one.declared.name for one in studied.values() if not (one.is_fact or one.is_dimension)]
    last = (partitions.end or date.today()).year + _YEARS_AHEAD  # noqa: DTZ011
    checks = [f"{name} is left out: it has neither a key nor an event time" for name in left]
    lines = [
        "# Proposed by `headrace scaffold star` from the declared sources and samples of them.",
        "# Comments say why. Edit it, then run `headrace check`.",
        *(line for check in checks for line in comment(f"CHECK: {check}", 0)),
        f"calendar: {{name: dim_date, start: {partitions.start}, end: {last}-12-31}}",
    ]
    lines += ["dimensions:"] if dimensions else []
    for one in dimensions:
        lines += _dimension(one)
    lines.append("facts:")
    for one in facts:
        lines += _fact(one, studied)
    return StarProposal(
        "\n".join(lines) + "\n",
        tuple(map(_dimension_name, dimensions)),
        tuple(_fact_name(one) for one in facts),
        tuple(checks),
    )


def _dimension(one: _Studied) -> Iterator[str]:
    entity = one.declared.entity
    operation, deletes = _operation(one)
    effective = next((name for name in entity.key if name not in one.members), None)
    skipped = {*one.members, operation, effective, getattr(entity.extract, "cursor", None)}
    yield from comment(f"{', '.join(one.members)} identifies a row of {one.declared.name}.", 2)
    for _, pairs, why in one.references:
        yield from comment(f"{', '.join(pairs.values())} refers to another dimension: {why}.", 2)
    for note in one.notes:
        yield from comment(note, 2)
    yield f"  - name: {_dimension_name(one)}"
    if entity.description:
        yield f"    description: {flow(entity.description)}"
    yield f"    entity: {one.declared.name}"
    yield f"    natural_key: {flow({_own(name): name for name in one.members})}"
    if effective is not None and not effective.startswith("_"):
        yield f"    effective_time: {effective}"
    if deletes:
        condition = f"{operation} = '{deletes}'"
        yield f"    deleted_when: {flow(condition)}"
    elif operation:
        yield from comment("CHECK: no delete is in the sample: declare deleted_when.", 4)
    if attributes := [c.name for c in entity.columns if c.name not in skipped]:
        yield f"    attributes: {flow({_own(name): name for name in attributes})}"


def _fact(one: _Studied, studied: Mapping[str, _Studied]) -> Iterator[str]:
    entity = one.declared.entity
    yield from comment(f"{one.time} is the time of a row of {one.declared.name}.", 2)
    for note in one.notes:
        yield from comment(note, 2)
    yield f"  - name: {_fact_name(one)}"
    if entity.description:
        yield f"    description: {flow(entity.description)}"
    yield f"    entity: {one.declared.name}"
    yield f"    grain: {flow([*entity.key])}"
    yield f"    event_time: {one.time}"
    joined: list[str] = []
    if one.references:
        yield "    dimensions:"
    for name, pairs, why in one.references:
        other = studied[name]
        dimension = _dimension_name(other)
        options: dict[str, Any] = {"dimension": dimension}
        options["natural_key"] = {_own(key): column for key, column in pairs.items()}
        if dimension in joined:
            options["role"] = next(iter(pairs.values())).removesuffix("_id").removesuffix("_key")
        joined.append(dimension)
        yield f"      - {flow(options)}  # {why}"
    used = {column for _, pairs, _ in one.references for column in pairs.values()}
    used |= {*one.measures, str(getattr(entity.extract, "cursor", ""))} - {str(one.time)}
    if columns := [c.name for c in entity.columns if c.name not in used]:
        yield f"    columns: {flow(columns)}"
    yield f"    measures: {flow([*one.measures])}"


def _operation(one: _Studied) -> tuple[str | None, str]:
    """The column that says what a change did, and its text for a delete."""
    for column in one.declared.entity.columns:
        if column.type != "string" or one.sample is None:
            continue
        texts = [text for text, _ in one.sample.values(column.name, len(_OPERATIONS))]
        if len(texts) > 1 and {text.lower() for text in texts} <= _OPERATIONS:
            return column.name, next((text for text in texts if text.lower() in _DELETES), "")
    return None, ""


def _dimension_name(one: _Studied) -> str:
    return f"dim_{_singular(one.declared.entity.name)}"


def _fact_name(one: _Studied) -> str:
    return f"fact_{one.declared.entity.name}"


def _singular(name: str) -> str:
    """`customer` for `customers`, `category` for `categories`."""
    if name.endswith("ies") and len(name) > 4:  # noqa: PLR2004
        return f"{name[:-3]}y"
    if name.endswith(("sses", "shes", "ches", "xes")):
        return name[:-2]
    return name[:-1] if name.endswith("s") and not name.endswith(("ss", "us", "is")) else name


def _own(name: str) -> str:
    return f"source_{name}" if name in _TAKEN else name
