"""The rule by which a partition is stale, and the gate that decides what can be built.

A published partition records the content versions of its inputs and the code version. It is stale
if one of these differs from the current one, if it can be built and never was, or if a run died
while it built it. This one rule finds late rows, corrected files, late dimensions, changed
configuration and killed runs, in every layer.

Partitions are named by their first day. The grain of an asset is at least as fine as the grains of
its inputs: it reads an input only on the first day of the input's partition.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from headrace.config.settings import PartitionSettings
from headrace.grain import WHOLE, Grain
from headrace.ledger.build_plan import AssetLineage, Gate, InputVersions, content_id
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
        runs: The runs that published the changed inputs. One that is alive will build this too.
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
    """The states of the asset, its inputs, its lookups and its required tables.

    Args:
        ledger: The ledger.
        lineage: The asset.
        days: The partitions of the asset; None for all.
    """
    names = dict.fromkeys(
        (lineage.name, *lineage.partition_inputs, *lineage.lookups, *lineage.required_tables)
    )
    # Partitions of another grain begin on other days, and a lookup reads all days before.
    whole = {name for name in lineage.required_tables if lineage.grain_of(name) != lineage.grain}
    whole |= {*lineage.lookups}
    return {name: ledger.states(name, None if name in whole else days) for name in names}


def gate(lineage: AssetLineage, states: States, days: Collection[date]) -> Gate:
    """Open the days of which all inputs and required tables are published."""
    opened: dict[date, InputVersions] = {}
    shut: dict[date, str] = {}
    for day in sorted(days):
        why = _why_shut(lineage, states, day)
        if why is None:
            opened[day] = _versions(lineage, states, day)
        else:
            shut[day] = why
    return Gate(opened, shut)


def read_stale(ledger: Ledger, lineage: AssetLineage) -> list[StalePartition]:
    """The stale partitions of an asset; reads the states of days that may be stale only."""
    days: Collection[date] | None = None
    # A changed partition of a lookup makes all later days stale: read all of them.
    if lineage.is_partitioned and not lineage.lookups:
        days = ledger.possibly_stale_days(
            lineage.name, lineage.partition_inputs, lineage.code_version
        )
        if not days:
            return []
    states = read_states(ledger, lineage, days)
    return stale_partitions(lineage, states, ledger.dead_runs())


def all_stale(
    ledger: Ledger, lineages: Mapping[str, AssetLineage], partitions: PartitionSettings
) -> list[StalePartition]:
    """The stale partitions of all assets in the configured range, in the order of `lineages`."""
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
        if one.partition is None
        or is_configured(lineages[one.asset].grain, one.partition, partitions)
    ]


def is_configured(grain: Grain, partition: date, partitions: PartitionSettings) -> bool:
    """Whether a partition lies within the configured range of partitions."""
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
    days = {
        day
        for name in (lineage.name, *lineage.partition_inputs)
        for day in states.get(name, _NEVER)
    }
    if lineage.is_partitioned:
        since = lineage.retained_from
        first = lineage.grain.start_of(since) if since else date.min
        days = {day for day in days if day is not None and day >= first}
    found = (_stale_partition(lineage, states, day, dead_runs) for day in days)
    return sorted((one for one in found if one), key=lambda one: one.partition or date.min)


def stale_tables(
    lineage: AssetLineage, read: InputVersions, current: InputVersions
) -> list[StalePartition]:
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


def is_superseded(
    lineage: AssetLineage, states: States, day: date, read: InputVersions, run: str
) -> bool:
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


def _stale_partition(
    lineage: AssetLineage, states: States, day: date | None, dead_runs: Collection[str]
) -> StalePartition | None:
    """The partition of a day with the reason if it is stale and can be built; else None."""
    if _why_shut(lineage, states, day) is not None:
        return None
    own = states.get(lineage.name, _NEVER).get(day)
    if own is not None and own.running_run_id in {*dead_runs}:
        return StalePartition(lineage.name, day, f"run {own.running_run_id} died while it built it")
    why, changed = _why_stale(lineage, own, _versions(lineage, states, day))
    if why is None:
        return None
    upstream = [states.get(name, _NEVER).get(day) for name in changed]
    upstream += [
        states[name][_partitions_looked_up(lineage, states[name], day)[-1]]
        for name in changed
        if name in lineage.lookups
    ]
    runs = frozenset(s.published_run_id for s in upstream if s and s.published_run_id)
    return StalePartition(lineage.name, day, why, runs, waits=_waits(lineage, own))


def _why_stale(
    lineage: AssetLineage, own: PartitionState | None, now: InputVersions
) -> tuple[str | None, Sequence[str]]:
    """Why a partition whose inputs are published is stale, and the inputs that changed."""
    if own is None or own.status == "skipped":
        return ("was never built" if lineage.inputs else None), lineage.partition_inputs
    if own.status == "running":
        return None, ()  # A run is building it.
    is_published = own.status == "published"
    read = own.inputs if is_published else own.attempted_inputs
    if read is None:
        if is_published:
            return "its inputs are unknown", lineage.partition_inputs
        waits = _waits(lineage, own)
        return ("waits for its file" if waits else "a retry may succeed"), lineage.partition_inputs
    if lineage.code_version != (own.published_code_version if is_published else own.code_version):
        return "its code_version changed", ()
    inputs = (*lineage.partition_inputs, *lineage.lookups)
    changed = [name for name in inputs if read.get(name) != now.get(name)]
    return (f"{', '.join(changed)} has other content" if changed else None), changed


def _waits(lineage: AssetLineage, own: PartitionState | None) -> bool:
    """Whether a partition is held until its file arrives: held, and without recorded inputs."""
    is_held = own is not None and own.status == "held" and own.attempted_inputs is None
    return is_held and not lineage.partition_inputs


def _why_shut(lineage: AssetLineage, states: States, day: date | None) -> str | None:
    """Why a partition cannot be built; None if it can."""
    for name in lineage.inputs:
        grain, state = lineage.grain_of(name), states.get(name, _NEVER).get(day)
        if state is None and not _must_exist(grain, day):
            continue
        if why := _why_unpublished(name, grain, day, state):
            return why
    reasons = (
        *(
            _why_lookup_unpublished(lineage, name, states.get(name, _NEVER), day)
            for name in lineage.lookups
        ),
        *(
            _why_table_unpublished(lineage, name, states.get(name, _NEVER), day)
            for name in lineage.required_tables
        ),
    )
    return next(filter(None, reasons), None) or _why_not_inferred(lineage, states, day)


def _why_lookup_unpublished(
    lineage: AssetLineage,
    name: str,
    known: Mapping[date | None, PartitionState],
    day: date | None,
) -> str | None:
    """Why a lookup cannot be read as of a partition's end; None if it can."""
    begun = _partitions_looked_up(lineage, known, day)
    if not begun:
        return f"{name} was never built"
    return _why_unpublished(name, lineage.grain_of(name), begun[-1], known[begun[-1]])


def _why_not_inferred(lineage: AssetLineage, states: States, day: date | None) -> str | None:
    """Why a dimension has not inferred the members of the day's inputs; None if all have."""
    versions = _versions(lineage, states, day)
    for name in lineage.inferring_tables:
        own, label = states[name].get(day), _label(lineage.grain_of(name), day)
        if own is None:
            return f"{name} {label} was never built"
        unread = [i for i in lineage.inputs if (own.inputs or {}).get(i) != versions.get(i)]
        if unread:
            return f"{name} {label} was not built from the current {unread[0]}"
    return None


def _why_table_unpublished(
    lineage: AssetLineage,
    name: str,
    states: Mapping[date | None, PartitionState],
    day: date | None,
) -> str | None:
    """Why a required table is not complete for a partition; None if it is.

    The table's partitions that begin in this one, or contain its first day, must be published.
    """
    grain = lineage.grain_of(name)
    if day is None or (grain == lineage.grain and grain != Grain.SPARSE):
        return _why_unpublished(name, grain, day, states.get(day))
    end = lineage.grain.end_of(day)
    begun = sorted(known for known in states if known is not None and day <= known < end)
    if grain.start_of(day) < day:
        begun.insert(0, grain.start_of(day))
    if not begun and (grain != Grain.SPARSE or not any(s.published_at for s in states.values())):
        return f"{name} was never built"
    reasons = (_why_unpublished(name, grain, each, states.get(each)) for each in begun)
    return next(filter(None, reasons), None)


def _why_unpublished(
    name: str, grain: Grain, day: date | None, state: PartitionState | None
) -> str | None:
    """Why one partition of an asset cannot be read; None if it can."""
    if state is None:
        return f"{name} {_label(grain, day)} was never built"
    if state.status != "published":
        is_never_built = state.status in ("skipped", "running")
        return (
            f"{name} {_label(grain, day)} is {'not built yet' if is_never_built else state.status}"
        )
    return None


def _must_exist(grain: Grain, day: date | None) -> bool:
    """Whether a partition of this grain begins on a day, so that it must have been built."""
    if day is None:
        return True
    if grain == Grain.SPARSE or (day == WHOLE and grain != Grain.NONE):
        return False
    return grain.start_of(day) == day


def _label(grain: Grain, day: date | None) -> str:
    return str(day) if day is None else grain.label(day)


def _versions(lineage: AssetLineage, states: States, day: date | None) -> dict[str, str]:
    """The current content version of each input and lookup of a partition."""
    found = ((name, states.get(name, _NEVER).get(day)) for name in lineage.partition_inputs)
    versions = {name: s.data_version for name, s in found if s and s.data_version is not None}
    for name in lineage.lookups:
        known = states.get(name, _NEVER)
        partitions = _partitions_looked_up(lineage, known, day)
        versions[name] = content_id(*(f"{each} {known[each].data_version}" for each in partitions))
    return versions


def _partitions_looked_up(
    lineage: AssetLineage, known: Mapping[date | None, PartitionState], day: date | None
) -> list[date]:
    """The partitions of a lookup that a partition reads: all that begin before its end.

    Days before the first partition with rows read that partition, too.
    """
    partitions = sorted(partition for partition in known if partition is not None)
    end = date.max if day is None else lineage.grain.end_of(day)
    with_rows = [each for each in partitions if known[each].published_rows]
    if with_rows:
        end = max(end, with_rows[0] + timedelta(days=1))
    return [each for each in partitions if each < end] or partitions[:1]
