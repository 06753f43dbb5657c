"""`headrace warehouse`: readers, retention, the embedded server's port.

Belongs here: commands that look after the warehouse.
Elsewhere: what they do (headrace.layers, headrace.warehouse), printing (headrace.cli.output).
"""

from typing import Annotated

import typer

from headrace.cli import output

app = typer.Typer(no_args_is_help=True, help="Readers of the warehouse, retention, its port.")
JsonFlag = Annotated[bool, typer.Option("--json", help="Print data as JSON and nothing else.")]


@app.command()
def grant(
    role: Annotated[str, typer.Argument(help="Role of Postgres; made if it is not there.")],
    as_json: JsonFlag = False,
) -> None:
    r"""Let a role read the warehouse: all of it, or the rows that `row_access` names for it.

    Prints the statements that were run. The role gets no password: set one with psql's \password.

    Example: headrace warehouse grant analyst
    """
    from headrace.config.loading import load_project
    from headrace.connections import postgres_url
    from headrace.layers.access import limits_of
    from headrace.warehouse import access
    from headrace.warehouse.sessions import connector

    project = load_project()
    limits = limits_of(project, role)
    done = access.grant(connector(postgres_url(project, "warehouse")), role, limits)
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
    from headrace.config.loading import load_project
    from headrace.connections import postgres_url
    from headrace.layers.retention import drop_old_months
    from headrace.warehouse.sessions import connector

    project = load_project()
    dropped = drop_old_months(project, connector(postgres_url(project, "warehouse")))
    months = {fact: [f"{month:%Y-%m}" for month in found] for fact, found in dropped.items()}
    output.print_facts("months dropped", months, as_json=as_json)


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
    from headrace.config.loading import home_folder
    from headrace.home import Home
    from headrace.home_lock import require_unused
    from headrace.warehouse import network

    require_unused(home_folder())
    folder = Home(home_folder()).postgres
    if off:
        network.close_port(folder)
        typer.echo("listens on its socket only", err=True)
        return
    server = network.open_port(folder, port)
    typer.echo(f"listens on {network.ADDRESS}:{server.port}, database warehouse", err=True)
