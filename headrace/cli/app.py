"""The `headrace` command: options in, data on stdout, everything else on stderr."""

import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli import output, warehouse
from headrace.cli.sources import scaffold, source
from headrace.errors import HeadraceError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A data platform to clone: from files to marts, audited before publication, in Dagster.",
)
demo = typer.Typer(no_args_is_help=True, help="A year of real sales, from sources to marts.")
app.add_typer(demo, name="demo")
audit = typer.Typer(no_args_is_help=True, help="Compare what is published with its rebuild.")
app.add_typer(audit, name="audit")
app.add_typer(warehouse.app, name="warehouse")
app.add_typer(source.app, name="source")
app.add_typer(scaffold.app, name="scaffold")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print data as JSON and nothing else.")]
Select = Annotated[
    str,
    typer.Option(
        "--select",
        help='Assets, in Dagster\'s syntax: group:curated; key:"raw/shop_orders"+ with all that is'
        " downstream; +group:curated with all that is upstream.",
    ),
]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a day; write it as 2017-03-04") from None


@app.command()
def check(
    connect: Annotated[
        bool,
        typer.Option(
            "--connect",
            help="Connect to databases and APIs, too: whether they answer, and have the tables,"
            " columns, types and privileges that are declared.",
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=1, help="With --connect: longest time for a source, in s."),
    ] = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Validate the whole configuration and list what it declares.

    The engine analyses every SQL condition, Python imports every `transform`, dbt parses its
    project. Nothing is run.

    Example: headrace check --connect
    """
    from headrace.cli.check import check_project
    from headrace.config.loader import load_project

    project = load_project()
    connected = check_project(project, timeout if connect else None)
    found: dict[str, object] = {
        "config": str(project.folder),
        "environment": project.environment,
        "sources": [source.name for source in project.sources],
        "entities": list(project.entities()),
        "dimensions": [d.name for d in project.star.dimensions],
        "facts": [f.name for f in project.star.facts],
    }
    if connect:
        found["connected"] = [f"{name}: {what}" for name, what in connected.items()]
    output.print_summary("configuration is valid", found, as_json=as_json)


@app.command()
def assess(  # noqa: PLR0913, PLR0917  # The options of a command are its arguments.
    target: Annotated[
        str,
        typer.Argument(
            help="A folder of files, one file, the http(s) URL of one, or the name of a connection"
            " to a database or an API.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", help="The source's name; default: the folder's or connection's."),
    ] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            help="Only tables of this name, with or without schema; * stands for any text. Of an"
            " API, the path of a list. May be repeated.",
            show_default="all",
        ),
    ] = None,
    sample_rows: Annotated[
        int,
        typer.Option("--sample-rows", min=1, help="Largest number of rows of an entity to read."),
    ] = 100_000,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the YAML and write nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the source's file if it is there.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Propose a source's configuration from a sample of its files, or of a database's tables.

    Writes sources/<name>.yaml into the configuration: paths or tables, formats, types, keys, modes,
    event times and first rules, with the evidence for each as comments. Reports with charts, in
    HTML and Markdown, go into the folder assess of the installation's home. Values of personal data
    are in neither.

    Example: headrace assess landing/shop --name shop
    """
    from headrace.cli.sources.assess import AssessOptions, assess_target, print_assessments

    options = AssessOptions(
        name, sample_rows, tuple(tables or ()), force=force, dry_run=dry_run, quiet=as_json
    )
    print_assessments(assess_target(target, options), dry_run=dry_run, as_json=as_json)


@app.command()
def backfill(
    start: Annotated[
        date | None, typer.Option("--from", parser=_day, metavar="DAY", help="First day.")
    ] = None,
    end: Annotated[
        date | None, typer.Option("--to", parser=_day, metavar="DAY", help="Last day.")
    ] = None,
    select: Select = "*",
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Rebuild whole tables from all days, with changed columns or types; takes neither"
            " --from nor --to. Readers see the old table until the new one is complete.",
        ),
    ] = False,
    stale: Annotated[
        bool,
        typer.Option(
            "--stale",
            help="Only stale partitions: their inputs or code have changed since they were built.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the layers for the days between --from and --to, both included; or rebuild tables.

    With --stale, each asset builds only its stale partitions: all of them, or those of the days
    given.

    Example: headrace backfill --from 2017-01-01 --to 2017-01-31
    """
    from headrace.marts import dbt_worker

    if not stale and dbt_worker.may_select_marts(select):
        # dbt starts while this process imports its own modules.
        dbt_worker.start()
    from headrace.cli.backfill import print_backfill, run_backfill
    from headrace.cli.status import read_unclaimed

    result = run_backfill(
        start, end, select=select, rebuild=rebuild, only_stale=stale, quiet=as_json
    )
    print_backfill(result, as_json=as_json)
    if not as_json:
        output.warn(read_unclaimed())
    raise typer.Exit(result.exit_code)


@app.command()
def reset(
    asset: Annotated[str, typer.Argument(help="Its name, as headrace status prints it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Drop the published table of an asset, in the lake or Postgres, and its rows of the ledger.

    The next backfill of its days builds it again. To change columns or types without an
    interruption for readers, use backfill --rebuild.

    Example: headrace reset marts/mart_daily_department --yes
    """
    from headrace.config.loader import load_project
    from headrace.operations import reset as operations

    project = load_project()
    plan = operations.plan_reset(project, asset)
    if not yes and not typer.confirm(f"This {plan.warning}. Go on?"):
        raise typer.Exit(2)
    operations.reset(project, plan)
    typer.echo(f"{plan.asset} is reset: run a backfill of its days", err=True)


@app.command()
def reconcile(
    source: Annotated[str, typer.Argument(help="A source, or source.entity.", show_default=False)],
    entity: Annotated[
        str | None, typer.Argument(help="An entity of it; default: all its tables.")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Capture again the rows that differ.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare tables of a database with what raw has of them: rows missing, changed or deleted.

    Both sides are read whole. Rows that the next capture reads anyway are not counted. Exit code 0:
    nothing differs, or all is repaired. 1: rows differ. 3: a table could not be compared.

    Example: headrace reconcile shop orders --repair
    """
    from headrace.cli.sources.reconcile import exit_code, print_reconciliation, run_reconcile

    found = run_reconcile(source, entity, repair=repair, quiet=as_json)
    print_reconciliation(found, as_json=as_json)
    raise typer.Exit(exit_code(found))


@app.command()
def maintain(as_json: JsonFlag = False) -> None:
    """Expire old snapshots of the lake and delete orphan files.

    The schedule `maintenance` does this each day. Snapshots that runs, readers or derived tables
    need are kept.

    Example: headrace maintain --json
    """
    from headrace.config.loader import load_project
    from headrace.operations.lake_maintenance import maintain as run

    done = run(load_project())
    changed = {
        found.table: f"{found.snapshots_expired} snapshots, {found.files_deleted} files,"
        f" {found.bytes_deleted} bytes"
        for found in done
        if found.snapshots_expired or found.files_deleted
    }
    output.print_summary(f"{len(done)} tables checked", changed, as_json=as_json)


@app.command()
def status(
    errors: Annotated[
        bool,
        typer.Option("--errors", help="Each held or failed partition with its whole error."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show each asset's partitions: published, empty, held, failed, missing, stale; rows; last run.

    Assets that were never built are listed, too; backfill --stale builds them. "rows" is the number
    of published rows; for a dimension, of all versions. A warning below the table names files in
    the landing zone that belong to no entity.

    Example: headrace status --errors
    """
    from headrace.cli.status import (
        print_errors,
        print_status,
        read_errors,
        read_first_steps,
        read_status,
        read_unclaimed,
    )

    if errors:
        print_errors(read_errors(), as_json=as_json)
        return
    found = read_status()
    is_new = all(asset.never_built for asset in found)
    print_status(found, as_json=as_json, first_steps=read_first_steps() if is_new else [])
    if not as_json:
        output.warn(read_unclaimed())


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One statement.")],
    write: Annotated[
        bool, typer.Option("--write", help="Let the statement change the warehouse.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run one statement on the warehouse and print its rows; read-only without --write.

    Example: headrace sql "select count(*) from warehouse.fact_sales"
    """
    from headrace.cli.query import print_rows, run_query

    print_rows(run_query(query, write=write), as_json=as_json)


@app.command()
def quarantine(
    entity: Annotated[
        str | None, typer.Argument(help="source.entity; default: all entities.")
    ] = None,
    start: Annotated[
        date | None, typer.Option("--from", parser=_day, metavar="DAY", help="First day.")
    ] = None,
    end: Annotated[
        date | None, typer.Option("--to", parser=_day, metavar="DAY", help="Last day.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Largest number of rows.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """List quarantined rows and their reasons; with --json also their values.

    Example: headrace quarantine retail.transactions --from 2017-03-01 --json
    """
    from headrace.cli.quarantine import print_quarantine, read_quarantine

    print_quarantine(read_quarantine(entity, start, end, limit), as_json=as_json)


@app.command()
def env() -> None:
    """Start the embedded Postgres and print the environment variables of Dagster's commands.

    Example: eval "$(headrace env)" && dg list defs
    """
    from headrace.project.home import shell_exports
    from headrace.project.home_setup import prepare_environment

    variables = {**prepare_environment(), "VIRTUAL_ENV": sys.prefix}
    typer.echo(shell_exports(variables, first_on_path=Path(sys.executable).parent))


@app.command()
def dev(
    port: Annotated[
        int, typer.Option(help="Port of the UI on 127.0.0.1.", min=1, max=65_535)
    ] = 3000,
) -> None:
    """Serve Dagster's UI for this installation and run its sensors and schedules.

    Works in any folder if HEADRACE_HOME and HEADRACE_CONFIG are set. An installation has one
    `headrace dev` at a time.

    Example: headrace dev --port 3001
    """
    from headrace.cli.dev import serve

    serve(port, lambda text: typer.echo(text, err=True))


@app.command()
def stop(
    force: Annotated[
        bool, typer.Option("--force", help="Stop it even while a command uses the installation.")
    ] = False,
) -> None:
    """Stop the embedded Postgres, which keeps running between commands, and the demo's APIs.

    Refused while `headrace dev` or a backfill uses the installation.

    Example: headrace stop
    """
    from headrace.config.loader import home_folder
    from headrace.embedded_postgres.server import stop as stop_server
    from headrace.project.demo_servers import stop_servers
    from headrace.project.home import Home
    from headrace.project.home_lock import require_unused

    if not force:
        require_unused(home_folder())
    stopped = [stop_servers(home_folder()), stop_server(Home(home_folder()).postgres)]
    typer.echo("stopped" if any(stopped) else "was not running", err=True)


@audit.command("star")
def audit_star(as_json: JsonFlag = False) -> None:
    """Rebuild the star from all processed rows in time order; compare lake and warehouse with it.

    Exit code 1: a table differs. 3: no table differs, and at least one was never published. Nothing
    is changed. It takes about as long as building the layers from curated to warehouse.

    Example: headrace audit star
    """
    from headrace.cli.audit import audit_star as run
    from headrace.cli.audit import print_audit

    found = run(quiet=as_json)
    print_audit(found, as_json=as_json)
    if not all(table.is_equal for table in found):
        raise typer.Exit(1)
    raise typer.Exit(0 if all(table.is_published for table in found) else 3)


@demo.command("stage")
def demo_stage() -> None:
    """Write the demo's year into its sources: files, the shop's database, the catalogue's API.

    Example: headrace demo stage
    """
    from headrace.cli.demo import stage

    stage()


@demo.command("run")
def demo_run() -> None:
    """Stage the demo's year, backfill it and print the results.

    Example: headrace demo run
    """
    from headrace.cli.demo import run

    raise typer.Exit(run())


def main() -> None:
    """Run a command; print a HeadraceError as message and hint and exit with its code."""
    try:
        app()
    except HeadraceError as error:
        output.print_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
