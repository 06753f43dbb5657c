"""`headrace warehouse`: readers, retention, the embedded server's port."""

from typing import Annotated

import typer

from headrace.cli import output

app = typer.Typer(no_args_is_help=True, help="Readers of the warehouse, retention, its port.")
JsonFlag = Annotated[bool, typer.Option("--json", help="Print data as JSON and nothing else.")]


@app.command()
def grant(
    role: Annotated[str, typer.Argument(help="Role of Postgres; created if it does not exist.")],
    as_json: JsonFlag = False,
) -> None:
    r"""Let a role read the warehouse: all of it, or the rows that `row_access` names for it.

    Prints the statements that were run. The role gets no password: set one with psql's \password.

    Example: headrace warehouse grant analyst
    """
    from headrace.config.loader import load_project
    from headrace.pipeline.warehouse_views import role_access
    from headrace.project.connections import postgres_url
    from headrace.warehouse.ddl import grants
    from headrace.warehouse.sessions import connection_factory

    project = load_project()
    limits = role_access(project, role)
    done = grants.grant(connection_factory(postgres_url(project, "warehouse")), role, limits)
    if as_json:
        output.print_json({"role": role, "is_limited": limits is not None, "statements": done})
        return
    for statement in done:
        typer.echo(f"{statement};")


@app.command()
def retain(as_json: JsonFlag = False) -> None:
    """Drop the months that are older than the facts' `keep_months`.

    Example: headrace warehouse retain --json
    """
    from headrace.config.loader import load_project
    from headrace.operations.retention import drop_old_months
    from headrace.project.connections import postgres_url
    from headrace.warehouse.sessions import connection_factory

    project = load_project()
    dropped = drop_old_months(project, connection_factory(postgres_url(project, "warehouse")))
    months = {fact: [f"{month:%Y-%m}" for month in found] for fact, found in dropped.items()}
    number = sum(map(len, months.values()))
    output.print_summary(f"{number} months dropped", months, as_json=as_json)


@app.command()
def listen(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1, for roles with a password.")
    ] = 5433,
    off: Annotated[bool, typer.Option("--off", help="Close the port again.")] = False,
) -> None:
    """Open a TCP port of the embedded Postgres, for tools that cannot use its socket.

    Restarts the server, so it refuses while `headrace dev` or a backfill runs.

    Example: headrace warehouse listen --port 5433
    """
    from headrace.config.loader import home_folder
    from headrace.embedded_postgres import tcp
    from headrace.project.home import Home
    from headrace.project.home_lock import require_unused

    require_unused(home_folder())
    folder = Home(home_folder()).postgres
    if off:
        tcp.close_port(folder)
        typer.echo("listens on its socket only", err=True)
        return
    server = tcp.open_port(folder, port)
    typer.echo(f"listens on {tcp.ADDRESS}:{server.port}, database warehouse", err=True)
