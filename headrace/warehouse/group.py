"""Loads that become visible together.

Belongs here: waiting until every table of a group is handed over.
Elsewhere: the transaction (headrace.warehouse.publishing).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from headrace.warehouse.publishing import Publication, publish
from headrace.warehouse.sessions import Connect, Session
from headrace.warehouse.staged import StagedLoad


@dataclass
class LoadGroup:
    """Tables whose loads are published in one transaction, when the last is handed over.

    An orchestrator hands its outputs to an IO manager one by one; readers must not see the first
    without the last.

    Attributes:
        connect: Opens sessions with the warehouse.
        members: Names of the tables that will be handed over.
        loads: What is staged; a member without a load is unchanged.
        published: What was published, once it is.
    """

    connect: Connect
    members: Collection[str]
    loads: Mapping[str, StagedLoad]
    published: dict[str, Publication] = field(default_factory=dict)
    _arrived: set[str] = field(default_factory=set)

    def member(self, name: str) -> "GroupMember":
        """The handle of one table."""
        return GroupMember(self, name)

    def arrive(self, name: str) -> bool:
        """Note that `name` was handed over; True once all members were."""
        self._arrived.add(name)
        return self._arrived >= {*self.members}

    def publish(
        self, before_commit: Callable[[Session, Mapping[str, Publication]], None]
    ) -> dict[str, Publication]:
        """Make all loads visible, or none.

        Args:
            before_commit: Called in the same transaction, with what changed by table.
        """
        names = list(self.loads)
        if not names:
            with self.connect() as session, session.transaction():
                before_commit(session, {})
            return {}
        done = publish(
            self.connect,
            list(self.loads.values()),
            before_commit=lambda session, changes: before_commit(
                session, dict(zip(names, changes, strict=True))
            ),
        )
        self.published.update(zip(names, done, strict=True))
        return dict(self.published)


@dataclass(frozen=True)
class GroupMember:
    """One table of a group, on its way to the IO manager."""

    group: LoadGroup
    name: str

    def arrive(self) -> bool:
        """Note that this table was handed over; True once all of its group were."""
        return self.group.arrive(self.name)
