"""Encrypted connections with MariaDB: what each `ssl_mode` accepts."""

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import stamina
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headrace.errors import SourceRejectedError
from headrace.sources.connections import Connection
from headrace.sources.mysql.session import close, connect, fetch
from tests import mariadb_server
from tests.contract.mysql_tables import require_mariadb
from tests.e2e.conftest import scratch_root

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def server() -> Iterator[mariadb_server.MariaDB]:
    """A server whose certificate is of 127.0.0.1, signed by an authority in its folder."""
    require_mariadb()
    with scratch_root() as root:
        certify(root)
        settings = [f"--ssl-{part}={root / part}.pem" for part in ("ca", "cert", "key")]
        with mariadb_server.running(root, *settings) as found:
            yield found


def certify(folder: Path) -> None:
    """Write ca.pem, cert.pem and key.pem, and other.pem: of an authority that signed nothing."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    authority, server, other = keys
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    files = {
        "ca": certificate("authority", authority, authority).sign(authority, hashes.SHA256()),
        "other": certificate("authority", other, other).sign(other, hashes.SHA256()),
        "cert": certificate("server", server, authority)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(authority, hashes.SHA256()),
    }
    for name, found in files.items():
        (folder / f"{name}.pem").write_bytes(found.public_bytes(serialization.Encoding.PEM))
    key = server.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (folder / "key.pem").write_bytes(key)


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    is_authority = key is issuer
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def cipher(server: mariadb_server.MariaDB, options: str, host: str = "127.0.0.1") -> str:
    """By which cipher a session is encrypted; empty: it is not."""
    url = server.url().replace("127.0.0.1", host) + options.replace("{folder}", str(server.folder))
    with stamina.set_testing(True, attempts=1):
        session = connect(Connection("shop", "SHOP_URL", lambda: url))
    try:
        ((_, found),) = fetch(session, "show session status like 'Ssl_cipher'")
        return str(found)
    finally:
        close(session)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "?ssl_mode=preferred",
        "?ssl-mode=REQUIRED",
        "?ssl_ca={folder}/ca.pem",
        "?ssl_ca={folder}/ca.pem&ssl_mode=verify_identity",
    ],
)
def test_a_session_is_encrypted_unless_the_url_disables_it(
    server: mariadb_server.MariaDB, options: str
) -> None:
    assert cipher(server, options) != ""


def test_a_session_is_not_encrypted_if_the_url_disables_it(server: mariadb_server.MariaDB) -> None:
    assert cipher(server, "?ssl_mode=disabled") == ""


@pytest.mark.parametrize(
    ("options", "host", "said"),
    [
        ("?ssl_mode=verify_ca", "127.0.0.1", "not signed by a known authority"),
        ("?ssl_ca={folder}/other.pem", "127.0.0.1", "not signed by a known authority"),
        (
            "?ssl_ca={folder}/ca.pem&ssl_mode=verify_identity",
            "localhost",
            "certificate is of another host",
        ),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(
    server: mariadb_server.MariaDB, options: str, host: str, said: str
) -> None:
    with pytest.raises(SourceRejectedError, match=said):
        cipher(server, options, host)
