"""Local APIs for these tests, and clients of them that do not wait long."""

from collections.abc import Mapping
from typing import Any

from demo.apis.server import ApiServer
from headrace.config.model import Secret
from headrace.config.sources.rest_connection import RestConnection
from headrace.sources.rest.client import RestClient

SECRETS = {"KEY": "canary-key-7f3a", "USER": "canary-user", "PASSWORD": "canary-pass word+/"}
CLIENT = {"CLIENT_ID": "headrace-demo", "CLIENT_SECRET": "not-a-secret"}


def resolve(secret: Secret) -> str:
    return {**SECRETS, **CLIENT}[secret.env]


def client_of(
    server: ApiServer, auth: Mapping[str, Any] | None = None, **limits: Any
) -> RestClient:
    # One request at a time: tests count them, and give the answers in their order.
    waits = {"first_wait_seconds": 0.005, "longest_wait_seconds": 2, "failures_to_open": 50}
    waits["parallel"] = 1
    connection = {"kind": "rest", "url": server.url, "auth": auth, "limits": {**waits, **limits}}
    return RestClient("shop", RestConnection.model_validate(connection), resolve)


def oauth2(server: ApiServer, **changes: Any) -> dict[str, Any]:
    return {
        "type": "oauth2",
        "token_url": f"{server.url}/oauth/token",
        "client_id": {"env": "CLIENT_ID"},
        "client_secret": {"env": "CLIENT_SECRET"},
        **changes,
    }
