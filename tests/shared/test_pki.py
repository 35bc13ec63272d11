"""Keys and certificates: real ones, and a real TLS handshake."""

from __future__ import annotations

import base64
import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from polyward_shared import pki
from polyward_shared.problems import Problem


def test_a_secret_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "node.key"
    pki.write_secret(path, b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(Problem, match="exists already"):
        pki.write_secret(path, b"two")
    assert path.read_bytes() == b"one"


def test_a_key_is_read_again(tmp_path: Path) -> None:
    key = pki.new_key()
    pki.write_secret(tmp_path / "node.key", pki.key_to_pem(key))
    assert pki.public_pem(pki.read_key(tmp_path / "node.key")) == pki.public_pem(key)


@pytest.mark.parametrize(("content", "mode", "found"), [(b"x", 0o600, "is not a private key"), (None, 0, "no key")])
def test_what_is_no_key(tmp_path: Path, content: bytes | None, mode: int, found: str) -> None:
    path = tmp_path / "node.key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(Problem, match=found):
        pki.read_key(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    pki.write_secret(path, pki.key_to_pem(pki.new_key()))
    path.chmod(mode)
    with pytest.raises(Problem, match="other users may read"):
        pki.read_key(path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505  only its kind matters here
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    pki.write_secret(tmp_path / "node.key", pem)
    with pytest.raises(Problem, match="is not a private key"):
        pki.read_key(tmp_path / "node.key")


def test_a_fingerprint_is_a_keys_own() -> None:
    plain = pki.public_pem(pki.new_key()).decode()
    mark = pki.fingerprint(plain)
    assert len(mark.split()) == 8
    assert mark != pki.fingerprint(pki.public_pem(pki.new_key()).decode())


def test_a_request_says_a_name_and_proves_a_key() -> None:
    key = pki.new_key()
    pem = pki.new_request("north", key)
    name, public = pki.read_request(pem)
    assert (name, public) == ("north", key.public_key())
    other = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north")])
    )
    weak = other.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    authority = x509.BasicConstraints(ca=True, path_length=None)
    more = other.add_extension(authority, critical=True).sign(key, hashes.SHA384())
    nameless = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA384())
    flipped = bytearray(base64.b64decode("".join(pem.decode().splitlines()[1:-1])))
    flipped[-1] ^= 1
    head, tail = (f"-----{word} CERTIFICATE REQUEST-----\n".encode() for word in ("BEGIN", "END"))
    broken = head + base64.encodebytes(flipped) + tail
    for wrong in (*(r.public_bytes(serialization.Encoding.PEM) for r in (weak, more, nameless)), broken, b"", b"x"):
        with pytest.raises(ValueError, match="request"):
            pki.read_request(wrong)


def test_a_certificate_of_a_node_is_for_clients_and_half_over_in_the_middle() -> None:
    authority_key, authority = pki.new_authority("a")
    made = pki.new_node_certificate("north", pki.new_key().public_key(), timedelta(days=2), authority_key, authority)
    made.verify_directly_issued_by(authority)
    [usage] = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert usage == ExtendedKeyUsageOID.CLIENT_AUTH
    assert abs(pki.half_life(made) - datetime.now(UTC) - timedelta(days=1)) < timedelta(seconds=5)


def test_a_signature_is_for_one_statement_and_one_key() -> None:
    key = pki.new_key()
    signature = pki.signed(key, b"this")
    assert pki.is_signed(key.public_key(), b"this", signature)
    assert not pki.is_signed(key.public_key(), b"that", signature)
    assert not pki.is_signed(pki.new_key().public_key(), b"this", signature)
    assert not pki.is_signed(key.public_key(), b"this", b"")


def handshake(folder: Path, hosts: list[str], name: str, ca: bytes) -> str:
    """What a client sees that connects under `name` and trusts `ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    client = ssl.create_default_context(cadata=ca.decode())
    left, right = socket.socketpair()

    def serve() -> None:
        try:
            context.wrap_socket(left, server_side=True).close()
        except (ssl.SSLError, OSError):
            left.close()

    server = threading.Thread(target=serve)
    server.start()
    try:
        with client.wrap_socket(right, server_hostname=name) as connection:
            return str(connection.version())
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        right.close()
        server.join()


def test_a_server_is_trusted_under_its_names_by_those_who_hold_its_authority(tmp_path: Path) -> None:
    authority_key, authority = pki.new_authority("hub authority")
    key = pki.new_key()
    hosts = ["hub.example.org", "127.0.0.1"]
    certificate = pki.new_server_certificate(hosts, key, authority_key, authority)
    pki.write_secret(tmp_path / "server.key", pki.key_to_pem(key))
    (tmp_path / "server.pem").write_bytes(pki.certificate_to_pem(certificate))
    ca = pki.certificate_to_pem(authority)
    assert handshake(tmp_path, hosts, "hub.example.org", ca) == "TLSv1.3"
    assert handshake(tmp_path, hosts, "127.0.0.1", ca) == "TLSv1.3"
    assert "mismatch" in handshake(tmp_path, hosts, "other.example.org", ca)
    _, other = pki.new_authority("hub authority")
    assert "certificate" in handshake(tmp_path, hosts, "127.0.0.1", pki.certificate_to_pem(other))


def test_the_server_certificate_signs_nothing_and_serves_only() -> None:
    authority_key, authority = pki.new_authority("hub")
    leaf = pki.new_server_certificate(["localhost"], pki.new_key(), authority_key, authority)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (limits.ca, limits.path_length) == (True, 0)


def test_long_names_are_cut_in_the_subject_only() -> None:
    host = "a" * 60 + ".example.org"
    authority_key, authority = pki.new_authority("x" * 60 + " authority")
    leaf = pki.new_server_certificate([host], pki.new_key(), authority_key, authority)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [host]


@pytest.mark.parametrize("host", ["höst", "https://hub", "hub:8443", "", "a b", "-hub", "hub/"])
def test_what_is_no_host_name_is_a_problem(host: str) -> None:
    authority_key, authority = pki.new_authority("hub")
    with pytest.raises(Problem, match="expected a host name"):
        pki.new_server_certificate([host], pki.new_key(), authority_key, authority)
