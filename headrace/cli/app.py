"""The `headrace` command: options in, data on stdout, everything else on stderr."""

import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli import output, warehouse
from headrace.errors import HeadraceError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A data platform to clone: raw to marts, partitioned by day, gated, operated in Dagster.",
)
demo = typer.Typer(no_args_is_help=True, help="A year of real sales, from files to marts.")
app.add_typer(demo, name="demo")
audit = typer.Typer(no_args_is_help=True, help="Compare what is published with its rebuild.")
app.add_typer(audit, name="audit")
app.add_typer(warehouse.app, name="warehouse")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print data as JSON and nothing else.")]
Select = Annotated[
    str,
    typer.Option("--select", help='Assets, in Dagster\'s syntax: key:"raw/*"+ or group:curated.'),
]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a day; write it as 2017-03-04") from None


@app.command()
def check(as_json: JsonFlag = False) -> None:
    """Validate the whole configuration and say what it declares.

    The engine reads every SQL condition, Python every `transform`, dbt its project: nothing is run.

    Example: headrace check
    """
    from headrace.cli.checking import check_project
    from headrace.config.loading import load_project

    project = load_project()
    check_project(project)
    found = {
        "config": str(project.folder),
        "environment": project.environment,
        "sources": [source.name for source in project.sources],
        "entities": list(project.entities()),
        "dimensions": [d.name for d in project.star.dimensions],
        "facts": [f.name for f in project.star.facts],
    }
    output.print_facts("configuration is valid", found, as_json=as_json)


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
            help="All days, into tables made anew where columns or types changed, without --from"
            " and --to. Readers see the old table until the new one is whole.",
        ),
    ] = False,
    stale: Annotated[
        bool,
        typer.Option("--stale", help="Only what is stale: built from inputs that changed since."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the layers for the days from START to END, both included; or rebuild tables.

    With --stale each asset builds the days that need it, among all days or those given.

    Example: headrace backfill --from 2017-01-01 --to 2017-01-31
    """
    from headrace.marts import dbt_worker

    if not stale and dbt_worker.may_be_needed(select):
        # It gets ready while this process imports what it needs itself.
        dbt_worker.start()
    from headrace.cli.runner import read_unclaimed, run_backfill

    result = run_backfill(
        start, end, select=select, rebuild=rebuild, only_stale=stale, quiet=as_json
    )
    output.print_backfill(result, as_json=as_json)
    if not as_json:
        output.warn(read_unclaimed())
    raise typer.Exit(result.exit_code)


@app.command()
def reset(
    asset: Annotated[str, typer.Argument(help="As headrace status names it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Drop what is published of an asset, in lake or Postgres, and its rows of the ledger.

    It is built anew by the next backfill of its days. To change columns or types while readers go
    on reading, use backfill --rebuild.

    Example: headrace reset marts/mart_daily_department --yes
    """
    from headrace.config.loading import load_project
    from headrace.operations import reset as resetting

    project = load_project()
    plan = resetting.plan_reset(project, asset)
    if not yes and not typer.confirm(f"This {plan.warning}. Go on?"):
        raise typer.Exit(2)
    resetting.reset(project, plan)
    typer.echo(f"{plan.asset} is as if never published: run a backfill of its days", err=True)


@app.command()
def maintain(as_json: JsonFlag = False) -> None:
    """Forget old snapshots of the lake and delete files that nothing refers to.

    The schedule `maintenance` does it each day; what runs, readers and followers need stays.

    Example: headrace maintain --json
    """
    from headrace.config.loading import load_project
    from headrace.operations.lake_maintenance import maintain as run

    done = run(load_project())
    changed = {
        found.table: f"{found.snapshots_expired} snapshots, {found.files_deleted} files,"
        f" {found.bytes_deleted} bytes"
        for found in done
        if found.snapshots_expired or found.files_deleted
    }
    output.print_facts(f"{len(done)} tables looked at", changed, as_json=as_json)


@app.command()
def status(
    errors: Annotated[
        bool,
        typer.Option("--errors", help="Each partition that is held or failed, and why, in full."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show each asset's partitions: published, empty, held, failed, missing; rows; last run.

    Assets that are declared and were never built are shown, too: backfill --stale builds them.

    Rows are those that readers see: of a dimension all its versions, of a mart its own. Files of
    the landing zone that no entity claims are named below.

    Example: headrace status --errors
    """
    from headrace.cli.runner import first_steps, read_errors, read_status, read_unclaimed

    if errors:
        output.print_errors(read_errors(), as_json=as_json)
        return
    found = read_status()
    is_new = all(asset.never_built for asset in found)
    output.print_status(found, as_json=as_json, first_steps=first_steps() if is_new else [])
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
    """Run a query on the warehouse and print its rows; without --write it can only read.

    Example: headrace sql "select count(*) from warehouse.fact_sales"
    """
    from headrace.cli.query import run_query

    output.print_rows(run_query(query, write=write), as_json=as_json)


@app.command()
def quarantine(
    entity: Annotated[
        str | None, typer.Argument(help="source.entity; all of them without it.")
    ] = None,
    start: Annotated[
        date | None, typer.Option("--from", parser=_day, metavar="DAY", help="First day.")
    ] = None,
    end: Annotated[
        date | None, typer.Option("--to", parser=_day, metavar="DAY", help="Last day.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """Show the rows that were set aside and why; with --json also what is in them.

    Example: headrace quarantine retail.transactions --from 2017-03-01 --json
    """
    from headrace.cli.quarantine import read_quarantine

    output.print_quarantine(read_quarantine(entity, start, end, limit), as_json=as_json)


@app.command()
def env() -> None:
    """Start what the platform needs and print the variables for Dagster's own commands.

    Example: eval "$(headrace env)" && dg list defs
    """
    from headrace.cli.runner import prepare
    from headrace.project.home import shell_exports

    variables = {**prepare(), "VIRTUAL_ENV": sys.prefix}
    typer.echo(shell_exports(variables, first_on_path=Path(sys.executable).parent))


@app.command()
def dev(
    port: Annotated[
        int, typer.Option(help="Port of the UI on 127.0.0.1.", min=1, max=65_535)
    ] = 3000,
) -> None:
    """Open Dagster's UI over this installation, with sensors and schedules running.

    From any folder, given HEADRACE_HOME and HEADRACE_CONFIG. One at a time over an installation.

    Example: headrace dev --port 3001
    """
    from headrace.cli.dev import serve

    serve(port, lambda text: typer.echo(text, err=True))


@app.command()
def stop(
    force: Annotated[
        bool, typer.Option("--force", help="Also while a command uses the installation.")
    ] = False,
) -> None:
    """Stop what stays between commands: the embedded Postgres.

    It refuses while `headrace dev` or a backfill uses it.

    Example: headrace stop
    """
    from headrace.config.loading import home_folder
    from headrace.embedded_postgres.server import stop as stop_server
    from headrace.project.home import Home
    from headrace.project.home_lock import require_unused

    if not force:
        require_unused(home_folder())
    stopped = stop_server(Home(home_folder()).postgres)
    typer.echo("stopped" if stopped else "was not running", err=True)


@audit.command("star")
def audit_star(as_json: JsonFlag = False) -> None:
    """Rebuild the star from all processed rows in time order; compare lake and warehouse with it.

    Exit code 1 if a table differs. It changes nothing, and takes about as long as the layers from
    processed to warehouse took.

    Example: headrace audit star
    """
    from headrace.cli.audit import audit_star as run

    found = run(quiet=as_json)
    output.print_audit(found, as_json=as_json)
    raise typer.Exit(0 if all(table.is_equal for table in found) else 1)


@demo.command("stage")
def demo_stage() -> None:
    """Write the demo's year into the landing folder, as the files a shop would deliver.

    Example: headrace demo stage
    """
    from headrace.cli.demo import stage

    stage()


@demo.command("run")
def demo_run() -> None:
    """Stage the demo's year, backfill it, and show what was built.

    Example: headrace demo run
    """
    from headrace.cli.demo import run

    raise typer.Exit(run())


def main() -> None:
    """Entry point: one place turns errors into messages and exit codes."""
    try:
        app()
    except HeadraceError as error:
        output.print_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
