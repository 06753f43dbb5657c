"""Model of the connection to an SFTP server: where it is, credentials, and its host key."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from headrace.config.model import MAY_HOLD_SECRET, Secret, StrictModel


def _host(value: str) -> str:
    if not value or "@" in value or "/" in value:
        raise PydanticCustomError(
            MAY_HOLD_SECRET,
            "must be the name of a host alone: user, password and folder have keys of their own",
        )
    return value


class SftpConnection(StrictModel):
    """A folder of an SFTP server. The server's host key must be known before it is trusted."""

    kind: Literal["sftp"] = Field(description="An SFTP server.")
    host: Annotated[str, AfterValidator(_host)] = Field(
        description="Name or address of the server.", examples=["files.example.com"]
    )
    port: int = Field(22, ge=1, le=65535, description="Its port.")
    user: str = Field(min_length=1, description="The user.")
    password: Secret | None = Field(
        None, description="The password. Left out: `private_key` is needed."
    )
    private_key: Secret | None = Field(
        None, description="Environment variable with the text of the private key (OpenSSH or PEM)."
    )
    passphrase: Secret | None = Field(None, description="The passphrase of the private key.")
    host_key: str | None = Field(
        None,
        pattern=r"^SHA256:[A-Za-z0-9+/]{43}$",
        description="Fingerprint of the server's public key, as `ssh-keygen -l` shows it. Ask the "
        "server's operator for it.",
        examples=["SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"],
    )
    known_hosts: str | None = Field(
        None,
        min_length=1,
        description="File with the public keys of servers, in OpenSSH's format; `~` is the home "
        "folder of the user that runs Headrace. Instead of `host_key`.",
        examples=["~/.ssh/known_hosts"],
    )
    folder: str = Field(
        ".",
        min_length=1,
        description="Folder whose files are read: paths of entities lie below it. Relative to the "
        "user's folder on the server, unless it begins with `/`.",
        examples=["outgoing", "/data/exports"],
    )
    connect_seconds: float = Field(15.0, gt=0, description="Longest wait for a connection.")
    read_seconds: float = Field(60.0, gt=0, description="Longest wait for an answer.")

    @model_validator(mode="after")
    def _has_credentials(self) -> Self:
        if self.password is None and self.private_key is None:
            raise ValueError("needs password or private_key: environment variables that hold them")
        if self.passphrase is not None and self.private_key is None:
            raise ValueError("passphrase: is that of a private_key: declare it, or drop passphrase")
        return self

    @model_validator(mode="after")
    def _host_is_known(self) -> Self:
        if (self.host_key is None) == (self.known_hosts is None):
            raise ValueError(
                "needs either host_key or known_hosts: a server is not trusted unseen. Its "
                "operator can tell the fingerprint (ssh-keygen -l)"
            )
        return self
