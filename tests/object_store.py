"""SeaweedFS, a real S3 server from PyPI, on free local ports and gone at the end.

Run as `with running(folder) as store`; every store has keys of its own, so that a test which
reaches another one is refused.
"""

import json
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from headrace.lake.storage import S3Access

_WEED = Path(sys.executable).with_name("weed")
_START_SECONDS = 60.0
_PORTS = ("master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc", "s3", "s3_grpc")


@dataclass(frozen=True)
class ObjectStore:
    """A running S3 server with one bucket."""

    settings: S3Access
    bucket: str

    def prefix(self, name: str) -> str:
        """An S3 URI in the bucket."""
        return f"s3://{self.bucket}/{name}"

    def environment(self) -> Mapping[str, str]:
        """What Sail must find in the environment before it is imported."""
        return {
            "AWS_ACCESS_KEY_ID": self.settings.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": self.settings.secret_access_key or "",
            "AWS_REGION": self.settings.region,
            "AWS_ENDPOINT": self.settings.endpoint or "",
            "AWS_ALLOW_HTTP": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }


@contextmanager
def running(folder: Path, bucket: str = "lake") -> Iterator[ObjectStore]:
    """Start a server whose files are in `folder`, with an empty bucket; end it afterwards."""
    ports = _free_ports()
    key, secret = f"key{secrets.token_hex(4)}", secrets.token_hex(16)
    settings = S3Access(
        endpoint=f"http://127.0.0.1:{ports['s3']}", access_key_id=key, secret_access_key=secret
    )
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            _command(folder, config, ports), stdout=log, stderr=log, cwd=folder
        )
        try:
            _await_bucket(server, settings, bucket, folder / "log")
            yield ObjectStore(settings, bucket)
        finally:
            # At once: it takes ten seconds to end by itself, and its files are thrown away.
            server.kill()
            server.wait()


def _command(folder: Path, config: Path, ports: Mapping[str, int]) -> list[str]:
    return [
        str(_WEED),
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder}",
        *(
            f"-{name.replace('_', '.port.') if '_' in name else name + '.port'}={port}"
            for name, port in ports.items()
        ),
        "-filer",
        "-s3",
        f"-s3.config={config}",
        # Off: they listen on fixed ports, so that a second server would not start.
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-volume.max=50",
        "-master.volumeSizeLimitMB=256",
        "-master.telemetry=false",
    ]


def _await_bucket(
    server: "subprocess.Popen[bytes]", settings: S3Access, bucket: str, log: Path
) -> None:
    # Making the bucket with keys that only this server knows also shows that it is ours.
    scheme, _, endpoint = (settings.endpoint or "").partition("://")
    client = fs.S3FileSystem(
        access_key=settings.access_key_id,
        secret_key=settings.secret_access_key,
        region=settings.region,
        scheme=scheme,
        endpoint_override=endpoint,
        allow_bucket_creation=True,
        connect_timeout=2,
        request_timeout=5,
    )
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            client.create_dir(bucket)
            # The first write waits for a volume: one write shows that files can be stored.
            with client.open_output_stream(f"{bucket}/ready") as file:
                file.write(b"ready")
            client.delete_file(f"{bucket}/ready")
        except OSError as error:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"SeaweedFS did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.1)
        else:
            return


def _free_ports() -> dict[str, int]:
    # All are held open together, so that no port is given twice.
    with ExitStack() as held:
        found = {}
        for name in _PORTS:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found[name] = probe.getsockname()[1]
        return found
