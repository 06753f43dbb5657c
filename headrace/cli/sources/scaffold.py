"""`headrace scaffold`: proposes the layers after the sources."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli import output

if TYPE_CHECKING:
    from headrace.config.loader import Project

app = typer.Typer(no_args_is_help=True, help="Propose the layers that follow the sources.")
JsonFlag = Annotated[bool, typer.Option("--json", help="Print data as JSON and nothing else.")]


@app.command()
def star(
    sample_rows: Annotated[
        int,
        typer.Option("--sample-rows", min=1, help="Largest number of rows of an entity to read."),
    ] = 20_000,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the YAML and write nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace star.yaml if it is there.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Propose star.yaml: dimensions and facts of the declared sources.

    By the entities' keys and event times, by foreign keys of databases, and by a sample of each
    entity: which columns hold the key of another one, and which depend on an identifier. Each with
    its evidence as a comment.

    Example: headrace scaffold star --dry-run
    """
    from headrace.config.loader import config_folder

    text, facts = scaffold_star(sample_rows, force=force or dry_run, quiet=as_json)
    target = config_folder() / "star.yaml"
    if dry_run and not as_json:
        print(text, end="")  # noqa: T201
        return
    if not dry_run:
        # Another process never reads half a file.
        whole = target.with_name(".star.yaml.tmp")
        whole.write_text(text, encoding="utf-8")
        whole.replace(target)
    shown = facts | ({"yaml": text} if dry_run else {"next": "headrace check"})
    output.print_summary(f"wrote {target}", shown, as_json=as_json)


def scaffold_star(
    sample_rows: int, *, force: bool, quiet: bool = False
) -> tuple[str, dict[str, object]]:
    """The text of star.yaml, and what is in it.

    Raises:
        ConfigError: There is no source, no fact, or a star.yaml already and `force` is false.
    """
    import yaml

    from headrace.assess.source_yaml import schema_line
    from headrace.assess.star.declared_samples import DeclaredSamples
    from headrace.assess.star.star_proposal import propose_star
    from headrace.config.entities.lookups import with_lookups
    from headrace.config.loader import (
        Project,
        config_folder,
        home_folder,
        load_settings,
        load_source,
    )
    from headrace.config.references import project_problems
    from headrace.config.star.dimension_entities import with_full_snapshots
    from headrace.config.star.models import StarConfig
    from headrace.config.star.references import with_fact_times
    from headrace.errors import ConfigError
    from headrace.project.connections import landing_of

    folder = config_folder()
    target = folder / "star.yaml"
    if target.exists() and not force:
        raise ConfigError(
            f"{target} is there already",
            fix="give --force to replace it, or --dry-run to see what is proposed",
        )
    settings = load_settings()
    sources = {path: load_source(path) for path in sorted((folder / "sources").glob("*.yaml"))}
    if settings is None or not sources:
        raise ConfigError(
            f"{folder}: a star needs base.yaml and a source in sources/",
            fix="`headrace assess` proposes a source",
        )
    # The landing zone is of a project, whose star does not matter to it.
    none = StarConfig.model_construct()  # type: ignore[call-arg]
    project = Project(home_folder(), folder, "development", settings, sources, none)
    with nullcontext() if quiet else output.progress_bars():
        samples = DeclaredSamples(settings, [*sources.values()], lambda: landing_of(project))
        found = propose_star(samples, settings.partitions, sample_rows)
    entities = {f"{s.name}.{e.name}": e for s in sources.values() for e in s.entities}
    values = with_full_snapshots(yaml.safe_load(found.yaml), entities)
    proposed = with_fact_times(StarConfig.model_validate(values), with_lookups(entities))
    faults = project_problems(settings, proposed, sources)
    problems = [what for name, what in faults if name == "star.yaml"]
    checks = [*found.checks, *problems]
    schema = schema_line(target).replace("source.json", "star.json")
    facts: dict[str, object] = {
        "dimensions": [*found.dimensions],
        "facts": [*found.facts],
        "checks": checks or ["none"],
    }
    return schema + found.yaml, facts


@app.command()
def marts(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the names of the files and write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write dbt models of the star: staging models, sources with tests, and a mart by day a fact.

    Into models/staging and models/marts of the dbt project, which has to be there.

    Example: headrace scaffold marts
    """
    from headrace.config.loader import load_project

    project = load_project()
    written = scaffold_marts(project, force=force, dry_run=dry_run)
    models = project.dbt_project() / "models"
    shown: dict[str, object] = {"files": written, "next": "headrace check"}
    verb = "would write into" if dry_run else "wrote into"
    output.print_summary(f"{verb} {models}", shown, as_json=as_json)


def scaffold_marts(project: "Project", *, force: bool, dry_run: bool) -> list[str]:
    """Write the models; returns their paths below the dbt project's `models`.

    Raises:
        ConfigError: There is no dbt project, or one of the files is there and `force` is false.
    """
    from headrace.assess.star.mart_models import mart_models
    from headrace.errors import ConfigError

    folder = project.dbt_project()
    if not (folder / "dbt_project.yml").is_file():
        raise ConfigError(
            f"{folder}: no dbt project is here",
            fix="copy the folder dbt of Headrace there, for its macros and tests, without models",
        )
    found = mart_models(project)
    if not (force or dry_run):
        for path in found:
            if (folder / "models" / path).exists():
                raise ConfigError(
                    f"{folder / 'models' / path} is there already",
                    fix="give --force to replace it, or --dry-run to see the names of all files",
                )
    for path, text in ({} if dry_run else found).items():
        target = folder / "models" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = target.with_name(f".{target.name}.tmp")
        whole.write_text(text, encoding="utf-8")
        whole.replace(target)
    return sorted(found)
