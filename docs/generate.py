"""`make docs`: writes docs/reference from the code, so that no page tells another story."""

import sys
from pathlib import Path

from docs.generators import checks, commands, configuration, ledger, schemas

REFERENCE = Path(__file__).parent / "reference"


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
    """Write what changed, and delete what nobody makes any more."""
    made = pages()
    for path in sorted(REFERENCE.rglob("*.*")):
        if path.is_file() and path.relative_to(REFERENCE).as_posix() not in made:
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
