"""The rule by which a partition is stale, and the gate that decides what can be built.

A published partition records the content versions of its inputs and the code version. It is stale
if one of these differs from the current one. A partition is also stale if it can be built and never
was, or if a run died while it built it. This rule alone finds late rows, corrected files, late
dimensions, changed configuration and killed runs, in every layer.

Partitions are named by their first day. An asset's grain is at least as fine as its inputs', so it
reads an input only on the first day of the input's partition.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from headrace.config.settings import PartitionSettings
from headrace.grain import WHOLE, Grain
from headrace.ledger.build_plan import AssetLineage, Gate, Inputs, content_id
from headrace.ledger.ledger import Ledger
from headrace.ledger.records import PartitionState

# The last state of each partition, by asset.
States = Mapping[str, Mapping[date | None, PartitionState]]
_NEVER: Mapping[date | None, PartitionState] = {}


@dataclass(frozen=True)
class StalePartition:
    """A partition that has to be built, with the reason.

    Attributes:
        asset: Its asset.
        partition: Its first day; None for an asset without partitions, and for a changed
            whole-table input, which may affect any partition.
        reason: The reason, for messages.
        runs: The runs that published the changed inputs; one that is alive builds this asset too.
        waits: Whether it is held because its file has not arrived. A run may try it again, but
            only a delivery or a person can change the outcome.
    """

    asset: str
    partition: date | None
    reason: str
    runs: frozenset[str] = frozenset()
    waits: bool = False


def read_states(
    ledger: Ledger, lineage: AssetLineage, days: Collection[date] | None = None
) -> dict[str, Mapping[date | None, PartitionState]]:
    """The states that the rule needs: those of the asset, its inputs and its gates."""
    names = dict.fromkeys((lineage.name, *lineage.read, *lineage.lookups, *lineage.gates))
    # Partitions of a gate with another grain begin on other days: read all of them.
    others = {name for name in lineage.gates if lineage.grain_of(name) != lineage.grain}
    others |= {*lineage.lookups}
    return {name: ledger.states(name, None if name in others else days) for name in names}


def gate(lineage: AssetLineage, states: States, days: Collection[date]) -> Gate:
    """Open the days whose inputs are all published and whose gates are open."""
    opened: dict[date, Inputs] = {}
    shut: dict[date, str] = {}
    for day in sorted(days):
        why = _why_shut(lineage, states, day)
        if why is None:
            opened[day] = _versions(lineage, states, day)
        else:
            shut[day] = why
    return Gate(opened, shut)


def read_stale(ledger: Ledger, lineage: AssetLineage) -> list[StalePartition]:
    """The stale partitions of an asset; reads only days that may be stale."""
    days: Collection[date] | None = None
    # A partition of a lookup concerns all later days: read all of them.
    if lineage.is_partitioned and not lineage.lookups:
        days = ledger.candidate_partitions(lineage.name, lineage.read, lineage.code_version)
        if not days:
            return []
    states = read_states(ledger, lineage, days)
    return stale_partitions(lineage, states, ledger.dead_runs())


def all_stale(
    ledger: Ledger, lineages: Mapping[str, AssetLineage], partitions: PartitionSettings
) -> list[StalePartition]:
    """All stale partitions among those that exist, in the order of `lineages`."""
    found: list[StalePartition] = []
    for lineage in lineages.values():
        found += read_stale(ledger, lineage)
        if lineage.table_inputs:
            read = ledger.watermarks.versions_read(lineage.name)
            current = ledger.watermarks.current_versions(lineage.table_inputs)
            found += stale_tables(lineage, read, current)
    return [
        one
        for one in found
        if one.partition is None or exists(lineages[one.asset].grain, one.partition, partitions)
    ]


def exists(grain: Grain, partition: date, partitions: PartitionSettings) -> bool:
    """Whether a partition lies within the configured partitions."""
    if not grain.has_periods or partition == WHOLE:
        return True
    first, after = grain.start_of(partitions.start), partitions.end or date.max
    return first <= partition < after


def stale_partitions(
    lineage: AssetLineage, states: States, dead_runs: Collection[str] = ()
) -> list[StalePartition]:
    """The stale partitions of an asset, by day.

    Args:
        lineage: The asset, from the current configuration.
        states: Of `read_states`, for all days.
        dead_runs: Runs that died while they built partitions.
    """
    days = {day for name in (lineage.name, *lineage.read) for day in states.get(name, _NEVER)}
    if lineage.is_partitioned:
        since = lineage.retained_from
        first = lineage.grain.start_of(since) if since else date.min
        days = {day for day in days if day is not None and day >= first}
    found = (_state_of(lineage, states, day, dead_runs) for day in days)
    return sorted((one for one in found if one), key=lambda one: one.partition or date.min)


def stale_tables(lineage: AssetLineage, read: Inputs, current: Inputs) -> list[StalePartition]:
    """Whole-table inputs of an asset that changed since it read them.

    Args:
        lineage: The asset, from the current configuration.
        read: Versions that it has read; empty before its first publication.
        current: The current versions.
    """
    return [
        StalePartition(lineage.name, None, f"{name} has changed since")
        for name in lineage.table_inputs
        if read and read.get(name) != current.get(name)
    ]


def is_overtaken(lineage: AssetLineage, states: States, day: date, read: Inputs, run: str) -> bool:
    """Whether another run has attempted a day with newer inputs, so that this one must not publish.

    Args:
        lineage: The asset.
        states: The current states, read under the lock that publishes.
        day: The partition.
        read: The input versions that this run has read.
        run: This run.
    """
    own = states.get(lineage.name, _NEVER).get(day)
    if own is None or own.run_id == run or own.attempted_inputs is None:
        return False
    current = _versions(lineage, states, day)
    return own.attempted_inputs == current != read


def _state_of(
    lineage: AssetLineage, states: States, day: date | None, dead_runs: Collection[str]
) -> StalePartition | None:
    if _why_shut(lineage, states, day) is not None:
        return None
    own = states.get(lineage.name, _NEVER).get(day)
    if own is not None and own.running_run_id in {*dead_runs}:
        return StalePartition(lineage.name, day, f"run {own.running_run_id} died while it built it")
    why, changed = _why_stale(lineage, own, _versions(lineage, states, day))
    if why is None:
        return None
    above = [states.get(name, _NEVER).get(day) for name in changed]
    above += [
        states[name][_read_as_of(lineage, states[name], day)[-1]]
        for name in changed
        if name in lineage.lookups
    ]
    runs = frozenset(s.published_run_id for s in above if s and s.published_run_id)
    return StalePartition(lineage.name, day, why, runs, waits=_waits(lineage, own))


def _why_stale(
    lineage: AssetLineage, own: PartitionState | None, now: Inputs
) -> tuple[str | None, Sequence[str]]:
    """Why a partition whose inputs are published is stale, and the inputs that changed."""
    if own is None or own.status == "skipped":
        return ("was never built" if lineage.inputs else None), lineage.read
    if own.status == "running":
        return None, ()  # A run is building it.
    is_published = own.status == "published"
    read = own.inputs if is_published else own.attempted_inputs
    if read is None:
        if is_published:
            return "its inputs are unknown", lineage.read
        waits = _waits(lineage, own)
        return ("waits for its file" if waits else "a retry may succeed"), lineage.read
    if lineage.code_version != (own.published_code_version if is_published else own.code_version):
        return "its code_version changed", ()
    inputs = (*lineage.read, *lineage.lookups)
    changed = [name for name in inputs if read.get(name) != now.get(name)]
    return (f"{', '.join(changed)} has other content" if changed else None), changed


def _waits(lineage: AssetLineage, own: PartitionState | None) -> bool:
    """Whether a partition is held for its file, which is recorded as an error that may pass."""
    is_held = own is not None and own.status == "held" and own.attempted_inputs is None
    return is_held and not lineage.read


def _why_shut(lineage: AssetLineage, states: States, day: date | None) -> str | None:
    for name in lineage.inputs:
        grain, state = lineage.grain_of(name), states.get(name, _NEVER).get(day)
        if state is None and not _begins(grain, day):
            continue
        if why := _why_unread(name, grain, day, state):
            return why
    closed = (
        *(_why_unknown(lineage, name, states.get(name, _NEVER), day) for name in lineage.lookups),
        *(_why_closed(lineage, name, states.get(name, _NEVER), day) for name in lineage.gates),
    )
    return next(filter(None, closed), None) or _why_behind(lineage, states, day)


def _why_unknown(
    lineage: AssetLineage,
    name: str,
    known: Mapping[date | None, PartitionState],
    day: date | None,
) -> str | None:
    """Why the state of a lookup as of a partition's end cannot be read."""
    begun = _read_as_of(lineage, known, day)
    if not begun:
        return f"{name} was never built"
    return _why_unread(name, lineage.grain_of(name), begun[-1], known[begun[-1]])


def _why_behind(lineage: AssetLineage, states: States, day: date | None) -> str | None:
    """Why a dimension has not inferred the members of a day yet; None if it has."""
    versions = _versions(lineage, states, day)
    for name in lineage.inferring:
        own, label = states[name].get(day), _label(lineage.grain_of(name), day)
        if own is None:
            return f"{name} {label} was never built"
        behind = [i for i in lineage.inputs if (own.inputs or {}).get(i) != versions.get(i)]
        if behind:
            return f"{name} {label} was not built from the current {behind[0]}"
    return None


def _why_closed(
    lineage: AssetLineage,
    name: str,
    states: Mapping[date | None, PartitionState],
    day: date | None,
) -> str | None:
    """Why a gate is closed: a partition that begins in this one, or contains its first day."""
    grain = lineage.grain_of(name)
    if day is None or (grain == lineage.grain and grain != Grain.SPARSE):
        return _why_unread(name, grain, day, states.get(day))
    end = lineage.grain.end_of(day)
    begun = sorted(known for known in states if known is not None and day <= known < end)
    if grain.start_of(day) < day:
        begun.insert(0, grain.start_of(day))
    if not begun and (grain != Grain.SPARSE or not any(s.published_at for s in states.values())):
        return f"{name} was never built"
    return next((why for d in begun if (why := _why_unread(name, grain, d, states.get(d)))), None)


def _why_unread(
    name: str, grain: Grain, day: date | None, state: PartitionState | None
) -> str | None:
    if state is None:
        return f"{name} {_label(grain, day)} was never built"
    if state.status != "published":
        return f"{name} {_label(grain, day)} is {_as_words(state)}"
    return None


def _begins(grain: Grain, day: date | None) -> bool:
    """Whether a partition of this grain begins on a day, so that it must exist."""
    if day is None:
        return True
    if grain == Grain.SPARSE or (day == WHOLE and grain != Grain.NONE):
        return False
    return grain.start_of(day) == day


def _label(grain: Grain, day: date | None) -> str:
    return str(day) if day is None else grain.label(day)


def _versions(lineage: AssetLineage, states: States, day: date | None) -> dict[str, str]:
    found = ((name, states.get(name, _NEVER).get(day)) for name in lineage.read)
    versions = {name: s.data_version for name, s in found if s and s.data_version is not None}
    for name in lineage.lookups:
        known = states.get(name, _NEVER)
        read = [f"{d} {known[d].data_version}" for d in _read_as_of(lineage, known, day)]
        versions[name] = content_id(*read)
    return versions


def _read_as_of(
    lineage: AssetLineage, known: Mapping[date | None, PartitionState], day: date | None
) -> list[date]:
    """The partitions of a lookup that a partition reads: all that begin before its end.

    The first partition with rows is read by all earlier days, too.
    """
    partitions = sorted(partition for partition in known if partition is not None)
    end = date.max if day is None else lineage.grain.end_of(day)
    with_rows = [one for one in partitions if known[one].published_rows]
    last = max(end, with_rows[0] + timedelta(days=1)) if with_rows else end
    return [one for one in partitions if one < last] or partitions[:1]


def _as_words(state: PartitionState) -> str:
    return "not built yet" if state.status in ("skipped", "running") else state.status
