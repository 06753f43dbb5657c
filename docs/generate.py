"""`make docs`: generates docs/reference from the code."""

import sys
from pathlib import Path

from docs.generators import checks, commands, configuration, ledger, schemas

REFERENCE = Path(__file__).parent / "reference"
# Pages of the reference that are written by hand.
WRITTEN = {"glossary.md"}


def pages() -> dict[str, str]:
    """Every generated file: its path below docs/reference, and its text."""
    return {
        "configuration.md": configuration.page(),
        "cli.md": commands.page(),
        "ledger.md": ledger.page(),
        "checks.md": checks.page(),
        **{f"schemas/{name}": text for name, text in schemas.files().items()},
    }


def main() -> None:
    """Write changed pages, and delete generated pages that no generator makes any more."""
    made = pages()
    for path in sorted(REFERENCE.rglob("*.*")):
        if path.is_file() and path.relative_to(REFERENCE).as_posix() not in made.keys() | WRITTEN:
            path.unlink()
            sys.stderr.write(f"deleted {path}\n")
    for name, text in made.items():
        path = REFERENCE / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stderr.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
