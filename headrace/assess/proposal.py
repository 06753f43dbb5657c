"""What is proposed for an entity: types, key, event time, partition, rules, with their evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from headrace import progress
from headrace.assess.column_types import SURE_NULLS, TypeChoice, choose_types
from headrace.assess.name_words import (
    is_code,
    is_identifier,
    is_line,
    is_rate,
    is_state,
    is_time,
    words_of,
)
from headrace.assess.personal_data import PersonalData, personal_data_of
from headrace.assess.profile import ColumnProfile, EntityProfile, Sample
from headrace.assess.sample_source import POSITION, FoundEntity, SourceField
from headrace.assess.tables.capture_mode import CaptureMode, ProfiledTable, capture_mode
from headrace.config.entities.columns import TIMES
from headrace.config.entities.entity import EntityConfig
from headrace.config.sources.models import parse_source
from headrace.quality.conditions import condition_faults, condition_schema, entity_conditions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Of an entity, for progress bars: sample, types, profile, proposal.
STEPS = 4

_OBJECT = "_source_object"
# Of a number without a limit of digits.
ANY_DECIMAL = "decimal(38,10)"
_NUMBERS = ("int", "bigint", "double", "decimal")
_MOST_KEYS, _SINGLE_TRIES = 3, 40
_PAIR_COLUMNS, _TRIPLE_COLUMNS = 14, 9
# A description of a product may be unique in a sample, and is no key.
_LONGEST_KEY_TEXT = 64
# Rules of few rows would be broken by the next file.
_ROWS_FOR_RULES, _ROWS_FOR_VALUES = 20, 50
_MOST_VALUES, _LONGEST_VALUE, _ROWS_A_VALUE = 12, 24, 20
_SAME_DAY = 0.99
_OPERATIONS = {"i", "u", "d", "c", "r", "insert", "update", "delete", "create", "read"}
_CHANGE_WORDS = {"changed", "updated", "modified", "ts", "timestamp", "change"}


@dataclass(frozen=True)
class Rule:
    """A row rule; `is_active` is false for one that is only suggested in a comment."""

    name: str
    expect: str
    reason: str
    evidence: str
    is_active: bool = True


@dataclass
class Proposal:
    """What is proposed for one entity.

    Attributes:
        capture: How a table is captured; None of files.
        columns: Options of each column as YAML has them, `name` first.
        choices: How the type of each column was chosen.
        format_nulls: Texts that mean NULL in several columns.
        personal: Classes of personal data by column.
        notes: What holds for the whole entity.
    """

    found: FoundEntity
    profile: EntityProfile
    key: tuple[str, ...] = ()
    key_evidence: str = ""
    event_time: str | None = None
    event_time_evidence: str = ""
    partition_by: str | None = None
    partition_evidence: str = ""
    capture: CaptureMode | None = None
    duplicates: str | None = None
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    choices: dict[str, TypeChoice] = field(default_factory=dict)
    personal: dict[str, PersonalData] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    format_nulls: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def doubts(self) -> dict[str, str]:
        """By column, what somebody has to decide."""
        found = {name: c.doubt for name, c in self.choices.items() if c.doubt}
        for name, rows in self.profile.misfits.items():
            if rows:
                text = (
                    f"{counted(rows, 'row')} would be quarantined: no {self.columns[name]['type']}"
                )
                found[name] = f"{found[name]}; {text}" if name in found else text
        return found

    def null_share(self, name: str) -> float:
        """Share of the rows without a value; one that does not fit the type is a value."""
        rows = self.profile.rows
        missing = rows - self.profile.columns[name].given - self.profile.misfits.get(name, 0)
        return missing / rows if rows else 0.0

    def as_config(self) -> dict[str, Any]:
        """The entity as its YAML holds it."""
        extract = dict(self.found.extract)
        if self.capture:
            extract |= self.capture.as_extract()
        if self.partition_by:
            extract["partition_by"] = self.partition_by
        if self.format_nulls:
            extract["format"] = {**extract.get("format", {}), "null_texts": [*self.format_nulls]}
        config: dict[str, Any] = {"name": self.found.name, "extract": extract, **self.found.options}
        config["key"] = [*self.key] or [POSITION]
        if self.duplicates:
            config["duplicates"] = self.duplicates
        if self.event_time:
            config["event_time"] = self.event_time
        config["columns"] = [*self.columns.values()]
        active = [rule for rule in self.rules if rule.is_active]
        if active:
            config["rules"] = [
                {"name": r.name, "expect": r.expect, "reason": r.reason} for r in active
            ]
        return config


def counted(number: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def propose(
    spark: "SparkSession", source: Mapping[str, Any], entity: FoundEntity, sample: Sample
) -> Proposal:
    """What is proposed for an entity by a sample of at least one row.

    Args:
        spark: The engine that will read its columns.
        source: What the source's configuration has besides its name and entities.
        entity: The entity.
        sample: Its rows.
    """
    progress.report(entity.name, 1, STEPS)
    texts = sample.texts()
    choices = choose_types(spark, texts, entity.delimiter)
    for one in entity.fields:
        choices.setdefault(one.name, _typed_choice(one, sample))
        choices[one.name] = _as_declared(one, choices[one.name])
    proposal = Proposal(entity, EntityProfile(0, {}, 0, {}), choices=choices)
    proposal.columns = {f.name: _column(f, choices[f.name], entity) for f in entity.fields}
    if entity.catalog is None:
        _share_null_texts(proposal)
    config = _validated(proposal, source)
    progress.report(entity.name, 2, STEPS)
    misfits = sample.type_rows(spark, config)
    columns = sample.profile(config)
    rows, distinct = sample.count_distinct(sample.names)
    proposal.profile = EntityProfile(
        rows, sample.corrupt(), rows - distinct, columns, misfits, sample.rows_by_day()
    )
    for name, profile in columns.items():
        values = dict(profile.values)
        if personal := personal_data_of(name, proposal.columns[name]["type"], values):
            proposal.personal[name] = personal
    progress.report(entity.name, 3, STEPS)
    if entity.catalog is None:
        _propose_times(proposal, sample)
    _propose_key(proposal, sample)
    if entity.catalog is not None:
        _propose_capture(proposal, sample)
    _require_columns(proposal)
    _propose_rules(proposal, sample)
    _drop_refused_rules(proposal, _validated(proposal, source), spark)
    return proposal


def _column(one: SourceField, choice: TypeChoice, entity: FoundEntity) -> dict[str, Any]:
    column: dict[str, Any] = {"name": one.name}
    if one.source_name != one.name:
        column["from"] = one.source_name
    column["type"] = choice.type
    if entity.is_typed and choice.type != one.type:
        column["source_type"] = one.type
    column |= {name: _listed(value) for name, value in choice.options.items()}
    if choice.null_texts:
        column["null_texts"] = [*choice.null_texts]
    return column | dict(one.options)


def _listed(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value


def _typed_choice(one: SourceField, sample: Sample) -> TypeChoice:
    """The type of a column whose source has types; doubles that are whole or money are exact."""
    if "boolean" in one.fits:
        return _boolean_or_number(one, sample)
    if one.type != "double" or is_rate(one.name):
        return TypeChoice(one.type)
    name = '"' + one.name + '"'
    count, whole, cents, largest = sample.query(
        f"select count({name}), count_if({name} = floor({name})),"
        f" count_if(abs({name} * 100 - round({name} * 100)) < 1e-6), max(abs({name})) from sample"
    )[0]
    if not count or largest >= 1e9:  # noqa: PLR2004  # Too large to see cents in a double.
        return TypeChoice("double")
    if whole == count and is_identifier(one.name):
        return TypeChoice("bigint", evidence=("all doubles are whole numbers",))
    if whole < count and cents == count:
        return TypeChoice("decimal(12,2)", evidence=("all doubles have two places",))
    return TypeChoice("double")


def _as_declared(one: SourceField, choice: TypeChoice) -> TypeChoice:
    """The choice for a column of a database, by what its type says of values that are not there.

    A text stays text but for dates; a number of any size has a fraction sooner or later.
    """
    if one.is_declared and one.type == "string" and choice.type not in TIMES:
        return TypeChoice()
    if "decimal" in one.fits and _is_whole_or_double(choice.type) and not is_identifier(one.name):
        return TypeChoice(ANY_DECIMAL, evidence=("a number of any size",))
    return choice


def _is_whole_or_double(type_name: str) -> bool:
    return type_name in ("int", "bigint", "double")


def _boolean_or_number(one: SourceField, sample: Sample) -> TypeChoice:
    """The type of a small integer by which a database without booleans may mean one."""
    name = '"' + one.name + '"'
    ((least, largest),) = sample.query(f"select min({name}), max({name}) from sample")
    if least is not None and 0 <= least <= largest <= 1:
        return TypeChoice("boolean", evidence=("all are 0 or 1",))
    return TypeChoice(one.type)


def _share_null_texts(proposal: Proposal) -> None:
    """Move texts that mean NULL in several columns to the format."""
    lists = [c["null_texts"] for c in proposal.columns.values() if "null_texts" in c]
    texts = {text for texts in lists for text in texts}
    shared = [text for text in sorted(texts) if sum(text in some for some in lists) > 1]
    # In a column of texts a word such as NA may be a value, so it stays with its columns.
    shared = [text for text in shared if text.lower() in SURE_NULLS]
    proposal.format_nulls = tuple(shared)
    for column in proposal.columns.values():
        if left := [text for text in column.get("null_texts", []) if text not in shared]:
            column["null_texts"] = left
        else:
            column.pop("null_texts", None)


def _validated(proposal: Proposal, source: Mapping[str, Any]) -> EntityConfig:
    entities = [proposal.as_config()]
    return parse_source({**source, "name": "assessed", "entities": entities}).entities[0]


def _propose_capture(proposal: Proposal, sample: Sample) -> None:
    """How a table is captured; its columns are read as the database has them from here on."""
    for one in proposal.found.fields:
        if proposal.columns[one.name]["type"].partition("(")[0] in one.fits:
            proposal.columns[one.name].pop("source_type", None)
    table = ProfiledTable(proposal.found, proposal.profile, proposal.key, proposal.columns)
    proposal.capture = capture_mode(table, sample)
    proposal.partition_by = proposal.capture.partition_by
    proposal.partition_evidence = proposal.capture.partition_evidence
    lost = [
        f"{counted(rows, 'row')} of the sample would be quarantined: {reason}"
        for reason, rows in proposal.profile.corrupt.items()
    ]
    problems = (*proposal.found.problems, *proposal.capture.doubts, *lost)
    proposal.found = replace(proposal.found, problems=problems)


def _propose_times(proposal: Proposal, sample: Sample) -> None:
    """The event time; of files without a date, the column that says a row's day."""
    profiles = proposal.profile.columns
    # Since a state's time may be far from its file's day, it is no event time.
    events = [
        name
        for name, column in proposal.columns.items()
        if column["type"] in TIMES
        and profiles[name].given == profiles[name].rows > 0
        and not _may_lack(column)
        and not is_state(name)
    ]
    if proposal.found.is_dated:
        period = str(proposal.found.options.get("partition", "day"))
        shares = {name: sample.share_within(name, period) for name in events}
        within = [name for name, share in shares.items() if share >= _SAME_DAY]
        if within:
            best = max(within, key=lambda n: proposal.columns[n]["type"] != "date")
            proposal.event_time = best
            proposal.event_time_evidence = (
                f"in {shares[best]:.0%} of the rows it is of the {period} of their file"
            )
        return
    events = [name for name in events if profiles[name].distinct > 1]
    measures = [
        name
        for name, column in proposal.columns.items()
        if _is_number(column["type"]) and not is_identifier(name) and not is_rate(name)
    ]
    if events and measures:
        best = max(events, key=lambda n: (proposal.columns[n]["type"] != "date", is_time(n)))
        proposal.partition_by = best
        proposal.partition_evidence = proposal.found.undated or (
            "neither folders nor names of the files have a date; this column has one in each row"
        )


def _is_number(type_name: str) -> bool:
    return type_name.partition("(")[0] in _NUMBERS


def _propose_key(proposal: Proposal, sample: Sample) -> None:
    """The smallest set of columns that no two rows of a day agree in; names are considered."""
    rows = proposal.profile.rows
    catalog = proposal.found.catalog
    if catalog is not None and catalog.key:
        proposal.key = catalog.key
        proposal.key_evidence = f"the table's {catalog.key_kind}"
        proposal.notes += [
            f"{', '.join(key)} is unique too"
            if len(key) == 1
            else f"({', '.join(key)}) is unique too"
            for key in catalog.unique
        ]
        return
    ranked = _key_columns(proposal)
    repeated = proposal.profile.repeated
    key = _smallest_key(ranked, sample, whole_rows=bool(repeated))
    operation, changed_at = change_feed(proposal)
    if operation and changed_at and key and changed_at not in key:
        key = (*key, changed_at)
    if key and not repeated:
        proposal.key = key
        period = str(proposal.found.options.get("partition", "day"))
        within = f" of one {period}" if proposal.found.is_dated else ""
        proposal.key_evidence = f"no two{within} of the {rows:,} rows sampled agree in it"
        return
    is_one_file = proposal.found.objects == 1 or _one_a_day(proposal)
    place = (POSITION,) if is_one_file else (_OBJECT, POSITION)
    if key:
        proposal.key = (*key, *place)
        proposal.key_evidence = (
            f"{counted(repeated, 'repeated row')}: with its line in the key, each counts; without "
            f"{POSITION}, rows that agree in every column are one"
        )
        return
    proposal.key = (*ranked[:1], *place)
    each = "each line of a file" if catalog is None else "each row"
    proposal.key_evidence = f"no {_MOST_KEYS} columns are unique: {each} counts"


def change_feed(proposal: Proposal) -> tuple[str | None, str | None]:
    """The columns that say what a change did, and when; None where the rows are no changes."""
    operations = [
        name
        for name, profile in proposal.profile.columns.items()
        if profile.distinct > 1
        and {text.lower() for text, _ in profile.top} <= _OPERATIONS
        and proposal.columns[name]["type"] == "string"
    ]
    times = [
        name
        for name, column in proposal.columns.items()
        if column["type"] in TIMES and {*words_of(name)} & _CHANGE_WORDS
    ]
    if not operations:
        return None, None
    return operations[0], times[0] if times else None


def _one_a_day(proposal: Proposal) -> bool:
    return proposal.found.is_dated and max(proposal.found.objects_by_day.values(), default=1) == 1


def _key_columns(proposal: Proposal) -> list[str]:
    """Columns that may be part of a key, the likeliest first."""
    profiles = proposal.profile.columns
    ranked = []
    for place, (name, column) in enumerate(proposal.columns.items()):
        profile, kind = profiles[name], column["type"].partition("(")[0]
        is_filled = profile.given == profile.rows and not (_may_lack(column) or is_code(name))
        is_constant = profile.distinct <= 1 < profile.rows and not is_identifier(name)
        if not is_filled or kind in ("double", "decimal", "boolean") or is_constant:
            continue
        is_named = is_identifier(name) or is_line(name)
        if profile.longest > _LONGEST_KEY_TEXT or (kind == "int" and not is_named and place):
            continue
        order = 0 if is_identifier(name) else 1 if kind in TIMES or is_named else 2
        ranked.append((order if place or order == 0 else 1, place, name))
    return [name for _, _, name in sorted(ranked)]


def _may_lack(column: Mapping[str, Any]) -> bool:
    return any(option in column for option in ("optional", "since", "until"))


def _smallest_key(ranked: Sequence[str], sample: Sample, *, whole_rows: bool) -> tuple[str, ...]:
    # Columns that are nearly as different as the rows are tried first among equals by their rank.
    sizes = ((1, _SINGLE_TRIES), (2, _PAIR_COLUMNS), (_MOST_KEYS, _TRIPLE_COLUMNS))
    for size, most in sizes:
        some = ranked[:most]
        tries = sorted(combinations(some, size), key=lambda key: sum(map(some.index, key)))
        for key in tries:
            if size == 1 and not is_identifier(key[0]) and len(ranked) > 1 and ranked[0] != key[0]:
                continue  # A name or a time may be unique in a sample by chance.
            if not any(map(is_identifier, key)) and any(map(is_identifier, ranked)):
                continue
            rows, distinct = sample.count_distinct(key, whole_rows=whole_rows)
            if rows == distinct:
                return tuple(name for name in sample.names if name in key)
    return ()


def _require_columns(proposal: Proposal) -> None:
    """Say `required` of numbers, times and identifiers that are never NULL in the sample.

    A column that a database allows to be NULL is not required.
    """
    nullable = {f.name for f in proposal.found.fields if f.is_nullable}
    for name, column in proposal.columns.items():
        profile = proposal.profile.columns[name]
        misfits = proposal.profile.misfits.get(name, 0)
        is_filled = profile.given + misfits == profile.rows and profile.rows > 0
        needs = column["type"] != "string" or is_identifier(name)
        if name in nullable or name in proposal.key or _may_lack(column):
            continue
        if is_filled and needs:
            column["required"] = True


def _propose_rules(proposal: Proposal, sample: Sample) -> None:
    rows = proposal.profile.rows
    for name, column in proposal.columns.items():
        profile = proposal.profile.columns[name]
        if not profile.given or name in proposal.personal or name in proposal.key:
            continue
        is_measure = _is_number(column["type"]) and not is_identifier(name)
        if is_measure and profile.given >= _ROWS_FOR_RULES:
            proposal.rules += _range_rules(name, profile)
        elif column["type"] == "string" and rows >= _ROWS_FOR_VALUES:
            proposal.rules += _value_rules(name, profile, sample)


def _range_rules(name: str, profile: ColumnProfile) -> list[Rule]:
    try:
        least, largest = float(profile.least or 0), float(profile.largest or 0)
    except ValueError:
        return []
    if least < 0:
        return []
    why = f"{profile.least} to {profile.largest} in the sample"
    rule = Rule(_rule_name(name, "not_negative"), f"{name} >= 0", f"negative {name}", why)
    rules = [rule]
    if is_rate(name) and largest <= 100:  # noqa: PLR2004
        top = 1 if largest <= 1 else 100
        expect = f"{name} between 0 and {top}"
        rules = [Rule(_rule_name(name, "in_range"), expect, f"{name} out of range", why)]
    return rules


def _value_rules(name: str, profile: ColumnProfile, sample: Sample) -> list[Rule]:
    if not 1 < profile.distinct <= _MOST_VALUES or profile.longest > _LONGEST_VALUE:
        return []
    if profile.given < profile.distinct * _ROWS_A_VALUE or is_identifier(name):
        return []
    values = sorted(text for text, _ in sample.values(name, _MOST_VALUES))
    listed = ", ".join("'" + text.replace("'", "''") + "'" for text in values)
    is_coded = all(len(text) <= 3 and text.isalnum() for text in values)  # noqa: PLR2004
    return [
        Rule(
            _rule_name(name, "known"),
            f"{name} in ({listed})",
            f"unknown {name}",
            f"{profile.distinct} values in {profile.given} rows",
            is_active=is_coded,
        )
    ]


def _drop_refused_rules(proposal: Proposal, config: EntityConfig, spark: "SparkSession") -> None:
    """Drop rules that the engine refuses, such as those over a column called `order`."""
    declared = entity_conditions(config)
    places = {place for place, _ in condition_faults(spark, condition_schema(config), declared)}
    active = [rule for rule in proposal.rules if rule.is_active]
    refused = [rule for rule in active if any(f"rules[{rule.name}]" in p for p in places)]
    proposal.rules = [rule for rule in proposal.rules if rule not in refused]


def _rule_name(column: str, what: str) -> str:
    return f"{column[: 47 - len(what)]}_{what}"


def with_problems(proposal: Proposal, problems: Sequence[str]) -> Proposal:
    """The proposal with what was met while its rows were read."""
    found = tuple(dict.fromkeys((*proposal.found.problems, *problems)))
    return replace(proposal, found=replace(proposal.found, problems=found))
