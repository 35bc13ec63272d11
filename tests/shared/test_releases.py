"""A release that is not what it says is refused, whatever was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from rich.console import Console

from polyward_shared import pki
from polyward_shared.problems import Problem
from polyward_shared.releases import Descent, Figure, Release, Statement, Value, check_release, sign
from polyward_shared.statements import shown

NOW = datetime.now(UTC).replace(microsecond=0)
ARRAYS = b"the arrays"
AUTHORITY_KEY, AUTHORITY = pki.new_authority("north authority")
KEY = pki.new_key()
SERVER = pki.new_server_certificate(["localhost"], KEY, AUTHORITY_KEY, AUTHORITY)


def statement(**changes: Any) -> Statement:
    values: dict[str, Any] = {
        "name": "breast-1.0",
        "hub": "north [red]hub",
        "at": NOW,
        "encoder": "e" * 64,
        "file": hashlib.sha256(ARRAYS).hexdigest(),
        "size": len(ARRAYS),
        "layout": "a" * 64,
        "arrays": 2,
        "values": 9,
        "sites": 3,
        "figures": (
            Figure(
                task="mask",
                split="test",
                stage="final",
                metric="dice",
                primary=True,
                values=(Value(value=0.5, cases="10-19"),),
            ),
        ),
        "ancestry": (Descent(kind="import", name="[b]mine[/b].safetensors"), Descent(kind="seed", name="7")),
    }
    return Statement(**{**values, **changes})


def written(folder: Path, release: Release) -> Path:
    (folder / "given.safetensors").write_bytes(ARRAYS)
    (folder / "given.json").write_text(release.model_dump_json(indent=1))
    return folder / "given.json"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path, sign(statement(), KEY, SERVER, AUTHORITY))


def test_a_sound_release_by_certificate_or_by_fingerprint(path: Path) -> None:
    fingerprint = pki.authority_fingerprint(AUTHORITY)
    colons = ":".join(fingerprint[at : at + 2] for at in range(0, 64, 2)).upper()
    for trust in ({"authority": AUTHORITY}, {"fingerprint": fingerprint}, {"fingerprint": colons}):
        for file in (path, path.with_suffix(".safetensors")):
            checked = check_release(file, **trust)
            assert checked.release.statement == statement()
            assert checked.authority == fingerprint


def test_nobody_is_trusted_unasked(path: Path) -> None:
    with pytest.raises(Problem, match="to be told whom you trust") as refused:
        check_release(path)
    assert pki.authority_fingerprint(AUTHORITY) in str(refused.value)
    with pytest.raises(Problem, match="64 hexadecimal digits"):
        check_release(path, fingerprint="abcd")


def test_another_authority_is_refused(path: Path) -> None:
    other_key, other = pki.new_authority("north authority")
    with pytest.raises(Problem, match="comes from the authority"):
        check_release(path, authority=other)
    forged = sign(statement(), KEY, pki.new_server_certificate(["localhost"], KEY, other_key, other), AUTHORITY)
    with pytest.raises(Problem, match="does not bear its hub's signature"):
        check_release(written(path.parent, forged), authority=AUTHORITY)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1] + b"!", lambda data: data + b"!"])
def test_a_changed_file_is_refused(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.with_suffix(".safetensors").write_bytes(change(ARRAYS))
    with pytest.raises(Problem, match="is not the file of the release breast"):
        check_release(path, authority=AUTHORITY)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sites", 300),
        ("hub", "south hub"),
        ("file", "b" * 64),
        ("at", "2020-01-01T00:00:00Z"),
        ("notes", "approved by all"),
        ("ancestry", []),
    ],
)
def test_a_changed_statement_is_refused(path: Path, key: str, value: object) -> None:
    data = json.loads(path.read_text())
    data["statement"][key] = value
    path.write_text(json.dumps(data))
    with pytest.raises(Problem, match="does not bear its hub's signature"):
        check_release(path, authority=AUTHORITY)


def test_a_site_of_the_same_authority_cannot_release(path: Path) -> None:
    node = pki.new_node_certificate("riverside", KEY.public_key(), timedelta(days=9), AUTHORITY_KEY, AUTHORITY)
    with pytest.raises(Problem, match="does not bear its hub's signature"):
        check_release(written(path.parent, sign(statement(), KEY, node, AUTHORITY)), authority=AUTHORITY)


def test_an_issuer_that_is_no_authority_is_refused(path: Path) -> None:
    """Whoever trusts a server's certificate by mistake does not trust what that server would certify."""
    below = pki.new_server_certificate(["localhost"], KEY, KEY, SERVER)
    with pytest.raises(Problem, match="does not bear its hub's signature"):
        check_release(written(path.parent, sign(statement(), KEY, below, SERVER)), authority=SERVER)


def server_until(end: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hub")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(AUTHORITY.subject)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(end - timedelta(days=100))
        .not_valid_after(end)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(AUTHORITY_KEY, hashes.SHA384())
    )


def test_a_release_outlives_its_certificate_but_is_never_dated_outside_of_it(path: Path) -> None:
    end = NOW - timedelta(days=10)
    expired = server_until(end)
    good = sign(statement(at=end - timedelta(days=1)), KEY, expired, AUTHORITY)
    checked = check_release(written(path.parent, good), authority=AUTHORITY)
    assert checked.valid_until == end
    assert f"signed while its certificate was good, until {end:%Y-%m-%d}" in printed(checked)
    for at in (end + timedelta(seconds=1), end - timedelta(days=101)):
        late = sign(statement(at=at), KEY, expired, AUTHORITY)
        with pytest.raises(Problem, match="when its signer's certificate was not good"):
            check_release(written(path.parent, late), authority=AUTHORITY)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no release"),
        (b"[" * 100_000, "is no release"),
        (b"\xff\xfe", "is no release"),
        (b"[]", "given.json"),
        (b'{"format": "other"}', "format"),
    ],
)
def test_what_is_no_release(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(Problem, match=message):
        check_release(path, authority=AUTHORITY)


@pytest.mark.parametrize(
    ("field", "nonsense"),
    [("signature", "ab" * 20), ("signature", "abc"), ("signature", ""), ("certificate", "x"), ("authority", "x")],
)
def test_nonsense_in_place_of_a_certificate_or_signature(path: Path, field: str, nonsense: str) -> None:
    data = json.loads(path.read_text())
    data[field] = nonsense
    path.write_text(json.dumps(data))
    with pytest.raises(Problem):
        check_release(path, authority=AUTHORITY)


def test_both_files_are_needed(path: Path) -> None:
    path.with_suffix(".safetensors").unlink()
    with pytest.raises(Problem, match="cannot be read"):
        check_release(path, authority=AUTHORITY)
    with pytest.raises(Problem, match="cannot be read"):
        check_release(path.with_name("other.safetensors"), authority=AUTHORITY)
    with pytest.raises(Problem, match="is no file of a release"):
        check_release(path.with_suffix(".txt"), authority=AUTHORITY)


@pytest.mark.parametrize("text", ["a\x1b[2J", "a\nb", "a\u202eb", "a" * 256])
def test_a_name_cannot_pose_as_another(text: str) -> None:
    with pytest.raises(ValueError, match="hub"):
        statement(hub=text)
    if len(text) < 256 and "\n" not in text:
        with pytest.raises(ValueError, match="notes"):
            statement(notes=text)


def test_what_people_read_shows_brackets_as_they_are(path: Path) -> None:
    text = printed(check_release(path, authority=AUTHORITY))
    for part in ("north [red]hub", "[b]mine[/b].safetensors", "seed 7", "0.500 (n 10-19)"):
        assert part in text


def printed(checked: Any) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        for part in shown(checked):
            console.print(part)
    return captured.get()


def test_a_key_of_another_kind_signs_nothing(path: Path) -> None:
    release = sign(statement(), KEY, SERVER, AUTHORITY)
    other = ec.generate_private_key(ec.SECP384R1())
    forged = release.model_copy(update={"signature": pki.signed(other, statement().statement()).hex()})
    with pytest.raises(Problem, match="does not bear its hub's signature"):
        check_release(written(path.parent, forged), authority=AUTHORITY)
