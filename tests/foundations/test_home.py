"""The environment of an installation, as shells take it."""

import subprocess
from pathlib import Path

from headrace.project.home import shell_exports


def test_a_shell_takes_any_folder_for_what_it_is(tmp_path: Path) -> None:
    home = f"{tmp_path}/a b'; touch {tmp_path}/run; echo '$HOME`id`\"\\\n#é"
    exports = shell_exports({"HEADRACE_HOME": home}, first_on_path=Path(home))
    script = 'eval "$1"; printf %s "$HEADRACE_HOME|$PATH"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", exports],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin"},
    )
    assert done.stdout == f"{home}|{home}:/usr/bin"
    assert not (tmp_path / "run").exists()
