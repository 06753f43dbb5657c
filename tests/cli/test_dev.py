"""`headrace dev` and `headrace stop`: what they refuse before anything starts or ends."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.app import app
from headrace.cli.dev import Ui, serve
from headrace.errors import ConfigError
from headrace.project.home_lock import Use, require_unused, using

CONFIG = Path(__file__).parents[2] / "demo/files/config"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CONFIG", str(CONFIG))
    return tmp_path / "home"


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """Another program that answers as Dagster does, over another installation."""

    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = {"data": {"instance": {"info": "base_dir: /elsewhere/dagster"}}}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Nothing: the test says what matters."""

    with HTTPServer(("127.0.0.1", 0), Other) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_a_taken_port_is_an_error_before_anything_starts(home: Path, server: HTTPServer) -> None:
    with pytest.raises(ConfigError, match=f"port {server.server_port} .*cannot be used") as error:
        serve(server.server_port, print)
    assert f"--port {server.server_port + 1}" in error.value.fix
    assert not (home / "postgres").exists()


def test_another_programs_answer_is_not_taken_for_the_ui(home: Path, server: HTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    assert Ui(url, home / "dagster").answer() is None
    assert Ui(url, Path("/elsewhere/dagster")).answer() is not None


def test_a_second_one_over_an_installation_is_refused_and_names_the_first(home: Path) -> None:
    with using(home, "dev", "headrace dev at http://127.0.0.1:3000"):
        with pytest.raises(ConfigError, match=r"headrace dev at http://127.0.0.1:3000 \(process"):
            serve(3001, print)
        with using(home, "command", "headrace backfill"), using(home, "command", "another"):
            pass
    with using(home, "dev", "the next one"):
        assert not (home / "postgres").exists()


@pytest.mark.parametrize("use", ["dev", "command"])
def test_stop_refuses_while_something_uses_the_installation(home: Path, use: Use) -> None:
    with using(home, use, "somebody"):
        refused = CliRunner().invoke(app, ["stop"])
        assert isinstance(refused.exception, ConfigError)
        assert "somebody" in str(refused.exception)
        assert CliRunner().invoke(app, ["stop", "--force"]).exit_code == 0
    require_unused(home)
    assert CliRunner().invoke(app, ["stop"]).exit_code == 0
