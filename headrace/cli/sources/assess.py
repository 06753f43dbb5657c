"""`headrace assess`: the proposed source's file, and reports beside the installation's data."""

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from headrace.assess.assessment import Assessment, assess
from headrace.assess.files.download import download, file_name, is_url, shown_url
from headrace.assess.files.fields import snake_case
from headrace.assess.files.folder import FolderSource, folder_sources
from headrace.assess.sample_source import SampleSource
from headrace.assess.source_yaml import schema_line
from headrace.assess.tables.samples import TableSamples
from headrace.cli import output
from headrace.config.loader import config_folder, home_folder, load_settings
from headrace.config.model import did_you_mean
from headrace.config.settings import AnyConnection, ConnectionSettings, DemoConnection
from headrace.errors import ConfigError
from headrace.sources.connections import Connection, named_api, named_connection

_MOST_NAME = 40


@dataclass(frozen=True)
class WrittenAssessment:
    """An assessment, and where its files lie."""

    assessment: Assessment
    config: Path
    reports: tuple[Path, ...]


@dataclass(frozen=True)
class AssessOptions:
    """Options of the command; see its help."""

    name: str | None = None
    sample_rows: int = 100_000
    tables: tuple[str, ...] = ()
    force: bool = False
    dry_run: bool = False
    quiet: bool = False


def assess_target(target: str, options: AssessOptions) -> list[WrittenAssessment]:
    """Assess a folder, a file or a connection, and write what is proposed unless `dry_run`.

    Raises:
        ConfigError: Nothing can be read, or the file is there and `force` is false.
    """
    settings = load_settings()
    connections = settings.connections if settings else {}
    if settings and _is_database(connections.get(target)):
        base = _name_from(options, target)
        source = _samples_of(named_connection(settings, target), options.tables)
        return _assess_all([source], base, options)
    if settings and (api := named_api(settings, target)):
        # httpx2 takes a tenth of a second to import.
        from headrace.assess.apis.samples import ListSamples

        base = _name_from(options, target)
        return _assess_all([ListSamples(target, api, options.tables)], base, options)
    if options.tables:
        raise ConfigError(
            "--table: only databases and APIs have tables",
            fix="give the name of a connection with it",
        )
    if is_url(target):
        return _assess_url(target, options)
    path = Path(target)
    if not path.exists():
        near = did_you_mean(target, connections)
        raise ConfigError(
            f"{target} is neither a folder, a file nor a connection of base.yaml{near}",
            fix="give the path of a folder or file, or a name under `connections`",
        )
    return _assess_files(path.absolute(), options)


def _is_database(connection: AnyConnection | None) -> bool:
    is_of_demo = isinstance(connection, DemoConnection) and connection.is_database
    return is_of_demo or isinstance(connection, ConnectionSettings)


def _samples_of(connection: Connection, wanted: Sequence[str]) -> SampleSource:
    if connection.url().startswith(("mongodb://", "mongodb+srv://")):
        # pymongo takes a third of a second to import.
        from headrace.assess.collections.samples import CollectionSamples

        return CollectionSamples(connection, wanted)
    return TableSamples(connection, wanted)


def _assess_url(url: str, options: AssessOptions) -> list[WrittenAssessment]:
    base = _name_from(options, file_name(url).partition(".")[0])
    settings = load_settings()
    landing = settings.landing.uri if settings else "{home}/landing"
    note = f"deliver the file of {shown_url(url)} into {_landing_of(landing)}/{base}"
    with tempfile.TemporaryDirectory(prefix="headrace-assess-") as folder:
        path = download(url, Path(folder))
        sources = [_with_note(source, note) for source in folder_sources(path, f"{base}/")]
        for source in sources:
            source.title, source.description = shown_url(url), f"The file of {shown_url(url)}."
        return _assess_all(sources, base, options)


def _assess_files(path: Path, options: AssessOptions) -> list[WrittenAssessment]:
    base = _name_from(options, path.name if path.is_dir() else path.name.partition(".")[0])
    root = path if path.is_dir() else path.parent
    prefix, note = _place_in_landing(root, base)
    sources = [_with_note(source, note) for source in folder_sources(path, prefix)]
    return _assess_all(sources, base, options)


def _assess_all(
    sources: Sequence[SampleSource], base: str, options: AssessOptions
) -> list[WrittenAssessment]:
    names = [base if number == 0 else f"{base}_{s.connector}" for number, s in enumerate(sources)]
    targets = [config_folder() / "sources" / f"{each}.yaml" for each in names]
    if not (options.force or options.dry_run):
        _require_absent(targets)
    written = []
    with nullcontext() if options.quiet else output.progress_bars():
        for each, source, target in zip(names, sources, targets, strict=True):
            found = assess(source, each, options.sample_rows)
            reports = () if options.dry_run else _write(found, target)
            written.append(WrittenAssessment(found, target, reports))
    return written


def print_assessments(found: list[WrittenAssessment], *, dry_run: bool, as_json: bool) -> None:
    """Print where the files are and what has to be decided; with `dry_run` the YAML instead."""
    if dry_run and not as_json:
        for one in found:
            print(schema_line(one.config) + one.assessment.yaml, end="")  # noqa: T201
        return
    facts = [_facts(one, dry_run=dry_run) for one in found]
    if as_json:
        output.print_json(facts)
        return
    for one, shown in zip(found, facts, strict=True):
        output.print_summary(f"wrote {one.config}", shown, as_json=False)
        for check in one.assessment.checks:
            output.say("check: ", "yellow", check)


def _facts(one: WrittenAssessment, *, dry_run: bool) -> dict[str, object]:
    found = one.assessment
    facts: dict[str, object] = {
        "source": found.name,
        "entities": [*found.entities],
        "columns": found.columns,
        "personal data": [*found.personal] or "none found",
    }
    if dry_run:
        return facts | {"yaml": found.yaml, "checks": [*found.checks]}
    return facts | {"reports": [str(path) for path in one.reports], "next": "headrace check"}


def _name_from(options: AssessOptions, called: str) -> str:
    """The source's name: as given, or by what is assessed.

    Raises:
        ConfigError: The name that is given is none.
    """
    base = options.name or snake_case(called, "source", _MOST_NAME)
    if snake_case(base, "", _MOST_NAME + 8) != base:
        raise ConfigError(
            f"--name: '{base}' is no name of a source",
            fix=f"use lower snake case, such as {snake_case(base, 'shop', _MOST_NAME)}",
        )
    return base


def _place_in_landing(root: Path, name: str) -> tuple[str, str]:
    """What paths in the landing zone have before those in a folder, and what to do for it."""
    settings = load_settings()
    uri = settings.landing.uri if settings else "{home}/landing"
    landing = _landing_of(uri)
    if "://" not in landing and root.resolve().is_relative_to(Path(landing).resolve()):
        below = root.resolve().relative_to(Path(landing).resolve()).as_posix()
        return ("" if below == "." else f"{below}/"), ""
    return f"{name}/", (
        f"the files are not in the landing zone: deliver those of {root} into {landing}/{name}"
    )


def _landing_of(uri: str) -> str:
    return uri.replace("{home}", str(home_folder())).removeprefix("file://")


def _with_note(source: FolderSource, note: str) -> FolderSource:
    source.notes = (*((note,) if note else ()), *source.notes)
    return source


def _require_absent(targets: list[Path]) -> None:
    for target in targets:
        if target.exists():
            raise ConfigError(
                f"{target} is there already",
                fix="give --force to replace it, --name for another name, or --dry-run to see it",
            )


def _write(found: Assessment, target: Path) -> tuple[Path, ...]:
    folder = home_folder() / "assess"
    folder.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    reports = (folder / f"{found.name}.html", folder / f"{found.name}.md")
    for path, text in (
        (reports[0], found.html),
        (reports[1], found.markdown),
        (target, schema_line(target) + found.yaml),
    ):
        # Another process never reads half a file.
        whole = path.with_name(f".{path.name}.tmp")
        whole.write_text(text, encoding="utf-8")
        whole.replace(path)
    return reports
