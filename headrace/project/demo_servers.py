"""The demo's servers, for a project whose connections name them (`kind: demo`); none for others."""

from importlib import import_module
from pathlib import Path

from headrace.config.loader import Project
from headrace.config.settings import DemoConnection
from headrace.sources.connections import demo_url


def named_servers(project: Project) -> list[str]:
    """The demo's servers that the project reads from."""
    named = {getattr(source, "connection", "") for source in project.sources}
    connections = [one for name, one in project.settings.connections.items() if name in named]
    return sorted({one.server for one in connections if isinstance(one, DemoConnection)})


def start_servers(project: Project) -> dict[str, str]:
    """Start those that do not run, if the demo is staged; returns where each is.

    Raises:
        SourceUnavailableError: A server did not start.
    """
    if not _folder(project.home).is_dir():
        return {}
    urls = {name: demo_url(project.home, name) for name in named_servers(project)}
    return urls | (
        {"shop": "the database demo_shop, beside the warehouse"} if "shop" in urls else {}
    )


def stop_servers(home: Path) -> bool:
    """Stop the process of the demo's APIs; False if the home has none."""
    return _folder(home).is_dir() and bool(import_module("demo.servers").stop(home))


def _folder(home: Path) -> Path:
    return home / "demo"
