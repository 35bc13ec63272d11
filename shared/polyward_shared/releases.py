"""A release: an encoder's file, and beside it what a hub states about it and has signed.

The two files go together, NAME.safetensors and NAME.json. Checking them takes no hub and no network: only the
certificate of the hub's authority, or its fingerprint, told by somebody one trusts. Encoders outlive certificates, so a
release stays good after its signer's certificate has run out, if it is dated within the time for which that was given;
the date is the signer's own word.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import AfterValidator, AwareDatetime, Field

from polyward_shared import pki
from polyward_shared.checkpoints import canonical
from polyward_shared.encoders import Digest
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen, validated
from polyward_shared.study import Name
from polyward_shared.tasks import TaskName

ARRAYS, STATEMENT = ".safetensors", ".json"
FORMAT: Final = "polyward release"
LARGEST = 16 << 20  # bytes of a statement
CHUNK = 1 << 20


def _lines(text: str) -> str:
    """Controls, and marks that turn the direction of writing, would let a statement look like another one."""
    if not all(line.isprintable() for line in text.split("\n")):
        raise ValueError("expected text without control characters")
    return text


def _line(text: str) -> str:
    if "\n" in text:
        raise ValueError("expected one line")
    return _lines(text)


Line = Annotated[str, Field(max_length=255), AfterValidator(_line)]
Notes = Annotated[str, Field(max_length=4000), AfterValidator(_lines)]


class Descent(Frozen):
    """A stretch of an encoder's ancestry: rounds of one study, or what was there before the first of them."""

    kind: Literal["study", "import", "seed", "unknown"]
    name: Line = ""  # the study's id, the imported file's name, or the seed
    digest: Line = ""  # of the study, or of the imported encoder
    round: int = Field(default=0, ge=0)  # the last of them that counts; the first is 0
    rule: Line = ""
    sites: int = Field(default=0, ge=0)  # whose updates are in it
    at: AwareDatetime | None = None  # when the last of it was made
    hub: Line = ""  # of another hub, as its release says; empty for ours


class Value(Frozen):
    """One site's figure; the site is named only where the release names sites."""

    value: float
    cases: Line  # bucket
    site: Name | None = None


class Figure(Frozen):
    """A figure of one task at every site that measured it, in ascending order; never pooled."""

    task: Line
    split: Line
    stage: Line
    metric: Line
    primary: bool  # the one by which its task is judged
    values: tuple[Value, ...]


class Statement(Frozen):
    """What a hub says of an encoder."""

    version: Literal[1] = 1
    name: Name
    hub: Line
    at: AwareDatetime
    encoder: Digest
    file: Digest  # SHA-256 of the safetensors file
    size: int = Field(ge=0)  # of that file, bytes
    layout: Digest  # of the schema: names, shapes and order
    arrays: int = Field(ge=0)
    values: int = Field(ge=0)
    study: Digest | Literal[""] = ""  # empty for an encoder that was imported
    study_id: Line = ""
    round: int = Field(default=0, ge=0)
    rule: Line = ""
    sites: int = Field(default=0, ge=0)  # whose updates are in it, in this study
    site_names: tuple[Name, ...] = ()
    samples: Line = ""  # bucket: training images of these sites together
    labels: dict[TaskName, Line] = Field(default_factory=dict)  # bucket by task
    figures: tuple[Figure, ...] = ()
    ancestry: tuple[Descent, ...] = ()
    notes: Notes = ""

    def statement(self) -> bytes:
        """The bytes that the hub signs."""
        return canonical(FORMAT, self)

    def stamp(self) -> dict[str, str]:
        """What the safetensors file says of itself; nothing but this statement tells, so it can be written again."""
        told = self.model_dump(mode="json", include={"hub", "study", "study_id", "round", "rule", "sites", "ancestry"})
        return {"digest": self.encoder, "release": self.name, "lineage": json.dumps(told, sort_keys=True)}


class Release(Frozen):
    """The file NAME.json."""

    format: Literal["polyward release"] = FORMAT
    statement: Statement
    signature: str = Field(max_length=1000, pattern="^([0-9a-f]{2})*$")  # of the hub's server key
    certificate: str = Field(max_length=20_000)  # the server's, PEM
    authority: str = Field(max_length=20_000)  # that issued it, PEM


@dataclass(frozen=True, slots=True)
class Checked:
    """A release that is what it says. Its signer's certificate may have run out since (`valid_until`)."""

    release: Release
    arrays: Path
    authority: str  # fingerprint
    valid_until: AwareDatetime


def sign(
    statement: Statement, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, authority: x509.Certificate
) -> Release:
    """The statement with the hub's signature and all that is needed to check it."""
    return Release(
        statement=statement,
        signature=pki.signed(key, statement.statement()).hex(),
        certificate=pki.certificate_to_pem(certificate).decode(),
        authority=pki.certificate_to_pem(authority).decode(),
    )


def pair(path: Path) -> tuple[Path, Path]:
    """The two files of a release, arrays and statement, of which `path` is one. Raises `Problem`."""
    if path.suffix not in {ARRAYS, STATEMENT}:
        raise Problem(
            str(path), "is no file of a release", expected=f"NAME{ARRAYS} or NAME{STATEMENT}", remedy="name one of them"
        )
    return path.with_suffix(ARRAYS), path.with_suffix(STATEMENT)


def read_release(path: Path) -> Release:
    """The statement in a file, unchecked. Raises `Problem`."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise Problem(str(path), f"cannot be read ({error.strerror})", remedy="keep both files in one folder") from None
    except (ValueError, RecursionError):
        raise Problem(str(path), "is no release", expected="the JSON file of one", remedy="ask for it again") from None
    return validated(data, Release, where=str(path))


def check_release(path: Path, *, authority: x509.Certificate | None = None, fingerprint: str = "") -> Checked:
    """The release of which `path` is one of the two files, if it is what it says and comes from whom one trusts.

    Trust is an authority's certificate, or its fingerprint (SHA-256, 64 hexadecimal digits). Raises `Problem`.
    """
    arrays, stated = pair(path)
    release = read_release(stated)
    issuer = _certificate(release.authority, str(stated))
    claimed = pki.authority_fingerprint(issuer)
    trusted = pki.authority_fingerprint(authority) if authority is not None else _digits(fingerprint)
    if not trusted:
        raise Problem(
            str(stated),
            f"says that it comes from the authority {claimed}",
            expected="to be told whom you trust",
            remedy="ask that hub for its ca.pem or its fingerprint, by another way than this file came, "
            "and add --authority or --fingerprint",
        )
    if claimed != trusted:
        raise Problem(
            str(stated),
            f"comes from the authority {claimed}",
            expected=f"the authority {trusted}",
            remedy="do not use it, unless you trust that other hub",
        )
    statement, signature = release.statement, bytes.fromhex(release.signature)
    if not _may_issue(issuer) or not pki.is_signed_by_server(
        release.certificate.encode(), issuer, statement.statement(), signature
    ):
        raise Problem(
            str(stated),
            "does not bear its hub's signature: it was changed, or that hub never signed it",
            remedy="ask the hub for the release as it is",
        )
    signer = _certificate(release.certificate, str(stated))
    if not signer.not_valid_before_utc <= statement.at <= signer.not_valid_after_utc:
        raise Problem(
            str(stated),
            f"is dated {statement.at:%Y-%m-%d}, when its signer's certificate was not good",
            expected=f"a date from {signer.not_valid_before_utc:%Y-%m-%d} to {signer.not_valid_after_utc:%Y-%m-%d}",
            remedy="ask the hub for a new release",
        )
    _check_file(arrays, statement)
    return Checked(release, arrays, claimed, signer.not_valid_after_utc)


def _check_file(path: Path, statement: Statement) -> None:
    running, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                running.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise Problem(str(path), f"cannot be read ({error.strerror})", remedy="keep both files in one folder") from None
    if (running.hexdigest(), size) != (statement.file, statement.size):
        raise Problem(
            str(path),
            f"is not the file of the release {statement.name}: it was changed, or cut off",
            expected=f"{statement.size} bytes with the SHA-256 {statement.file[:16]}...",
            remedy="ask the hub for the file as it is",
        )


def _certificate(pem: str, where: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise Problem(where, "holds what is no certificate", remedy="ask the hub for the release as it is") from None


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, *pki.BAD_EXTENSIONS):
        return False


def _digits(fingerprint: str) -> str:
    """As people copy it: with or without colons, spaces and capitals. Raises `Problem`."""
    digits = "".join(fingerprint.replace(":", " ").split()).lower()
    if digits and (len(digits) != 64 or set(digits) - set("0123456789abcdef")):
        raise Problem(
            "--fingerprint", f"found {fingerprint!r}", expected="64 hexadecimal digits", remedy="copy it whole"
        )
    return digits
