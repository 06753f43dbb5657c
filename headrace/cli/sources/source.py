"""`headrace source`: what sources need in their databases."""

from typing import Annotated

import typer

from headrace.cli import output

app = typer.Typer(no_args_is_help=True, help="What sources need in their databases.")
JsonFlag = Annotated[bool, typer.Option("--json", help="Print data as JSON and nothing else.")]


@app.command()
def triggers(
    source: Annotated[str, typer.Argument(help="A source, or source.entity.", show_default=False)],
    entity: Annotated[
        str | None, typer.Argument(help="An entity of it; default: all with mode: change_table.")
    ] = None,
    install: Annotated[
        bool,
        typer.Option("--install/--print", help="Install them, or print them as a psql script."),
    ] = False,
    variable: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="VARIABLE",
            help="Environment variable with the URL of a user who may create triggers on the"
            " tables; default: the connection's.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print or install the triggers that write each change of a table to its change table.

    For tables with mode: change_table. Installing waits a few seconds for writers of the table; run
    again, it changes nothing.

    Example: headrace source triggers shop orders --install --as SHOP_OWNER_URL
    """
    from headrace.cli.sources.triggers import install_triggers, trigger_scripts

    if install:
        done = install_triggers(source, entity, variable)
        output.print_summary("triggers are installed", done, as_json=as_json)
        return
    scripts = trigger_scripts(source, entity, variable)
    if as_json:
        output.print_json(scripts)
        return
    for script in scripts.values():
        typer.echo(script)
