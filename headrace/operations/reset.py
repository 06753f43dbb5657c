"""Reset of an asset: drops its tables and ledger entries, so that the next run rebuilds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from psycopg import sql

from headrace.config.loader import Project
from headrace.errors import ConfigError
from headrace.project.connections import lake_of, ledger_of, postgres_url
from headrace.warehouse.sessions import Session, connection_factory, locked, map_errors

_LAKE = ("raw", "processed", "curated")
# Namespaces with further tables of a processed asset: quarantined rows, and their keys.
_QUARANTINES = ("quarantine", "quarantined_keys")
# Column of the asset's name, by table of the ledger. The history of attempts stays.
_LEDGER = {
    "partition_ledger": "asset",
    "table_input": "asset",
    "changed_day": "relation",
    "loaded_snapshot": "relation",
}


@dataclass(frozen=True)
class Reset:
    """The tables and ledger entries that a reset drops.

    Attributes:
        asset: Such as `curated/fact_sales`.
        tables: Tables of the lake or of Postgres, as namespace.name.
    """

    asset: str
    tables: tuple[str, ...]

    @property
    def warning(self) -> str:
        """One sentence on what is dropped, for the person who confirms it."""
        text = f"drops {', '.join(self.tables)} and the ledger's entries of {self.asset}"
        if self.asset.startswith("raw/"):
            text += "; files that are no longer in the landing zone are lost permanently"
        return text


def plan_reset(project: Project, asset: str) -> Reset:
    """Find the tables of an asset.

    Raises:
        ConfigError: The asset was never published.
    """
    layer, _, name = asset.partition("/")
    known = {summary.asset for summary in ledger_of(project).summary()}
    tables: tuple[str, ...] = (f"{layer}.{name}",)
    if layer in _LAKE:
        existing = {*lake_of(project).tables()}
        own = [(layer, name)]
        if layer == "processed":
            own += [(namespace, name) for namespace in _QUARANTINES]
        tables = tuple(f"{n}.{t}" for n, t in own if (n, t) in existing)
        known |= {f"{n}/{t}" for n, t in existing if n in _LAKE}
    if asset not in known:
        near = get_close_matches(asset, known, 1)
        raise ConfigError(
            f"'{asset}' was never published",
            fix=f"did you mean {near[0]}?" if near else "headrace status lists the assets",
        )
    return Reset(asset, tables)


def reset(project: Project, plan: Reset) -> None:
    """Drop the tables and ledger entries; waits for a run that is publishing the asset.

    Readers of a Postgres table see it until the transaction ends; files of the lake are deleted at
    once. Views over the table are dropped, too; the next load creates them again.

    Raises:
        WarehouseUnavailableError: Postgres does not answer; tables dropped before stay dropped.
    """
    layer = plan.asset.partition("/")[0]
    connect = connection_factory(postgres_url(project, "warehouse"))
    lock = layer if layer in {"warehouse", "marts"} else plan.asset
    with locked(connect, lock), map_errors(f"resetting {plan.asset}"), connect() as session:
        # The ledger first: a table without ledger entries is published again, but an entry
        # without a table would send readers to a missing table.
        with session.transaction():
            _forget(session, plan.asset)
            if layer not in _LAKE:
                _drop(session, plan.tables)
        if layer in _LAKE:
            lake = lake_of(project)
            for table in plan.tables:
                lake.drop(*table.split("."))


def _forget(session: Session, asset: str) -> None:
    for table, column in _LEDGER.items():
        relation = sql.Identifier("platform", table)
        found = session.execute("select to_regclass(%s)", (relation.as_string(),)).fetchone()
        if found is None or found[0] is None:
            continue
        session.execute(
            sql.SQL("delete from {} where {} in (%s, %s)").format(relation, sql.Identifier(column)),
            (asset, asset.replace("/", ".")),
        )


def _drop(session: Session, tables: Sequence[str]) -> None:
    for table in tables:
        namespace, _, name = table.partition(".")
        row = session.execute(
            "select relkind from pg_class where oid = to_regclass(%s)",
            (sql.Identifier(namespace, name).as_string(),),
        ).fetchone()
        if row is None:
            continue
        kind = {"v": "view", "m": "materialized view"}.get(row[0], "table")
        session.execute(
            sql.SQL("drop {} {} cascade").format(sql.SQL(kind), sql.Identifier(namespace, name))
        )
