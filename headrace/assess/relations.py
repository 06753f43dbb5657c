"""Relations of entities: references, whole lists, change feeds, attributes of an identifier."""

from collections.abc import Mapping
from typing import Any

from headrace.assess.name_words import is_identifier, is_time
from headrace.assess.profile import Sample
from headrace.assess.proposal import Proposal, change_feed
from headrace.assess.sample_source import OBJECT, POSITION

REFERRED, _SHARED_KEYS = 0.95, 0.8
# A description that was corrected once still depends on its product.
DEPENDS = 0.7


def note_relations(proposals: Mapping[str, tuple[Proposal, Sample]]) -> None:
    """Add notes on relations to the proposals of a source's entities."""
    for proposal, sample in proposals.values():
        _note_full_lists(proposal, sample)
        _note_dependence(proposal, sample)
    _note_references(proposals)


def _note_references(proposals: Mapping[str, tuple[Proposal, Sample]]) -> None:
    """Note which columns of an entity hold the key of another one, declared or by the sample."""
    keys = {}
    for name, (proposal, _) in proposals.items():
        # A key with a time of change has the member beside it.
        members = [k for k in proposal.key if k not in (POSITION, OBJECT) and not is_time(k)]
        if len(members) == 1:
            keys[name] = members[0]
    for name, (proposal, sample) in proposals.items():
        declared = _note_foreign_keys(proposal)
        for other, key in keys.items():
            owner, there = proposals[other]
            target = owner.columns[key]
            for column in proposal.columns.values():
                is_said = other == name or column["name"] in declared
                if is_said or not may_refer(column, target, other):
                    continue
                share = sample.referred(column["name"], there, key)
                if share >= REFERRED:
                    proposal.notes.append(
                        f"{column['name']} refers to {other}.{key}: {share:.0%} of its values in "
                        "the sample are there"
                    )


def _note_foreign_keys(proposal: Proposal) -> set[str]:
    """Note foreign keys of a table; returns their columns."""
    references = proposal.found.catalog.references if proposal.found.catalog else ()
    for reference in references:
        columns, there = ", ".join(reference.columns), ", ".join(reference.keys)
        proposal.notes.append(f"{columns} refers to {reference.entity}.{there}: a foreign key")
    return {column for reference in references for column in reference.columns}


def may_refer(column: Mapping[str, Any], target: Mapping[str, Any], entity: str) -> bool:
    """Whether names and types let a column refer to the key of an entity.

    Args:
        column: `name` and `type` of the column.
        target: Those of the key.
        entity: The entity's name.
    """
    kinds = {column["type"], target["type"]}
    if len(kinds) > 1 and not kinds <= {"int", "bigint"}:
        return False
    name, key = str(column["name"]), str(target["name"])
    if name.startswith(entity.rstrip("s")) and is_identifier(name):
        return True
    # `id` is the name of many keys.
    return key != "id" and (name == key or name.endswith(f"_{key}"))


def _note_full_lists(proposal: Proposal, sample: Sample) -> None:
    """Note when each file has the keys of the one before it: it is then the whole list."""
    members = [name for name in proposal.key if name not in (POSITION, OBJECT)]
    if not proposal.found.is_dated or not members or len(proposal.profile.rows_by_day) < 2:  # noqa: PLR2004
        return
    share = sample.shared_keys(members)
    operation, _ = change_feed(proposal)
    if operation:
        proposal.notes.append(
            f"{operation} says what a change did: declare it as docs/how-to/read-a-change-feed.md "
            "shows, so that deletes reach the star"
        )
    elif share is not None and share >= _SHARED_KEYS and not proposal.event_time:
        proposal.notes.append(
            f"{share:.0%} of the keys of a file are in the next one: if each file is the whole "
            "list, declare full_snapshot: true of its dimension in star.yaml"
        )


def _note_dependence(proposal: Proposal, sample: Sample) -> None:
    """Note columns that depend on an identifier alone: a dimension that only these rows have."""
    columns = proposal.columns
    members = [name for name in proposal.key if name not in (POSITION, OBJECT)]
    # Numbers that have a unit are facts, though few rows may repeat them.
    attributes = [
        name
        for name, column in columns.items()
        if column["type"] in ("string", "boolean") and proposal.profile.columns[name].distinct > 1
    ]
    for key in filter(is_identifier, columns):
        if [key] == members:
            continue
        others = [name for name in attributes if name != key and not is_identifier(name)]
        shares = sample.dependence(key, others)
        if found := [name for name, share in shares.items() if share >= DEPENDS]:
            verb = "depends" if len(found) == 1 else "depend"
            where, how = "files", " (extra_columns: ignore)"
            if proposal.found.catalog is not None:
                where, how = "table", ""
            proposal.notes.append(
                f"{', '.join(found)} {verb} on {key}: an entity of the same {where} with key "
                f"[{key}] would make a dimension of them{how}"
            )
