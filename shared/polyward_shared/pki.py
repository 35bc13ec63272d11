"""Keys and certificates: a hub's own certificate authority, its server certificate, and a node's key and certificate.

Keys are elliptic-curve keys (P-384, which Flower's node authentication takes too), made where they are used, written
with mode 0600. Certificates carry one purpose each. A node's certificate is asked for with a signed request (PKCS#10):
the key never travels.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from polyward_shared.problems import Problem

AUTHORITY_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=397)  # the longest that common TLS libraries accept for a server
CLOCK_SLACK = timedelta(hours=1)
BAD_EXTENSIONS = (x509.DuplicateExtension, x509.UnsupportedGeneralNameType)  # neither is a ValueError
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def write_secret(path: Path, data: bytes) -> None:
    """Writes a new file that only this user can read. Raises `Problem` if it exists: a key is never overwritten."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Problem(str(path), "exists already", remedy="keep it, or move it away yourself") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return public_key_pem(key.public_key()).encode()


def public_key_pem(key: ec.EllipticCurvePublicKey) -> str:
    """The one spelling of a public key."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The key in `path`. Raises `Problem` when it is absent, readable by others, or no such key."""
    if not path.is_file():
        raise Problem(str(path), "there is no key", remedy="enrol with an invitation: polyward-node enrol INVITATION")
    if path.stat().st_mode & 0o077:
        raise Problem(str(path), "other users may read this key", remedy=f"chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Problem(
            str(path),
            "is not a private key that polyward wrote",
            expected="an EC key in PEM form",
            remedy="take it from a backup, or move it away and make a new one",
        )
    return key


def fingerprint(public: str) -> str:
    """What two people compare by telephone: SHA-256 of the public key, in groups of four."""
    key = serialization.load_pem_public_key(public.encode())
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    text = digest.finalize().hex()[:32]
    return " ".join(text[i : i + 4] for i in range(0, 32, 4))


def new_authority(name: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A certificate authority that may sign leaves and nothing else."""
    key = new_key()
    subject = _named(name)
    certificate = (
        _builder(subject, subject, key.public_key(), AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    return key, certificate


def new_server_certificate(
    hosts: Sequence[str],
    key: ec.EllipticCurvePrivateKey,
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
) -> x509.Certificate:
    """A certificate for these host names and addresses, for TLS servers only. Raises `Problem` for a wrong name."""
    names = [_alternative(host) for host in hosts]
    return (
        _builder(_named(hosts[0]), authority.subject, key.public_key(), SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA384())
    )


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses of a server's certificate, as `new_server_certificate` takes them."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def new_request(name: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request (PKCS#10, PEM) for a certificate of the node `name`, signed with its key."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_named(name)).sign(key, hashes.SHA384())
    return request.public_bytes(serialization.Encoding.PEM)


def read_request(pem: bytes) -> tuple[str, ec.EllipticCurvePublicKey]:
    """Name and public key of a request whose signature is that key's own.

    Raises `ValueError` for anything else: other kinds of keys, several names, extensions, a signature that is not its.
    """
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        sound = request.is_signature_valid and len(request.subject) == len(names) == 1 and not request.extensions
    except (ValueError, TypeError, UnsupportedAlgorithm, *BAD_EXTENSIONS) as error:
        raise ValueError(f"not a certificate request: {error}") from None
    if not sound or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ValueError("expected a request with one common name and nothing else, signed by its own P-384 key")
    return str(names[0].value), key


def new_node_certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
) -> x509.Certificate:
    """A certificate for the node `name`, for TLS clients only."""
    return (
        _builder(_named(name), authority.subject, key, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA384())
    )


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in `path`. Raises `Problem`."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise Problem(str(path), "there is no certificate", remedy="enrol with an invitation") from None
    except ValueError:
        raise Problem(str(path), "is not a certificate", remedy="take it from a backup, or enrol again") from None


def half_life(certificate: x509.Certificate) -> datetime:
    """When half of the time for which it was given has passed."""
    begun = certificate.not_valid_before_utc + CLOCK_SLACK
    return begun + (certificate.not_valid_after_utc - begun) / 2


def authority_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate (DER), as 64 hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def signed(key: ec.EllipticCurvePrivateKey, statement: bytes) -> bytes:
    """The key's signature (ECDSA with SHA-384) under a statement."""
    return key.sign(statement, ec.ECDSA(hashes.SHA384()))


def is_signed(key: ec.EllipticCurvePublicKey, statement: bytes, signature: bytes) -> bool:
    """Whether the signature under this statement is that key's."""
    try:
        key.verify(signature, statement, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        return False
    return True


def is_signed_by_server(certificate: bytes, authority: x509.Certificate, statement: bytes, signature: bytes) -> bool:
    """Whether a server's certificate (PEM) of this authority's vouches for the signature; a node's vouches for none."""
    try:
        server = x509.load_pem_x509_certificate(certificate)
        server.verify_directly_issued_by(authority)
        usage = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        key = server.public_key()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound, *BAD_EXTENSIONS):
        return False
    of_server = ExtendedKeyUsageOID.SERVER_AUTH in usage
    return of_server and isinstance(key, ec.EllipticCurvePublicKey) and is_signed(key, statement, signature)


def public_from_pem(pem: bytes) -> ec.EllipticCurvePublicKey:
    """The elliptic-curve public key in PEM form. Raises `ValueError`."""
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("expected an elliptic-curve key")
    return key


def certificate_to_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)  # a node's clock may be a little behind
        .not_valid_after(now + lifetime)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])  # X.520's bound; clients read SAN only


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not HOST_NAME.fullmatch(host):
        raise Problem(
            "host", f"found {host!r}", expected="a host name or an IP address", remedy="write it without port or scheme"
        )
    return x509.DNSName(host)
