"""A sealed file opens with its key, in its place, as it was written, and not otherwise."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from polyward_client.trainer.vault import seal as module
from polyward_client.trainer.vault.keys import Key, Ring
from polyward_client.trainer.vault.seal import HEADER, content_length, is_sealed, seal, sealed_size, unsealed
from polyward_shared.problems import Problem

SECRET, OTHER = b"k" * 32, b"o" * 32
RING = Ring(Path("vault.key"), (SECRET,))
PLACE = "study/round-000001.safetensors"


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> object:
    """Pieces of 16 bytes, so that short contents have many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PIECE", 16)
        yield patch


def sealed(content: bytes, *cuts: int, secret: bytes = SECRET, place: str = PLACE) -> bytes:
    """The file that holds `content`, given in parts."""
    file = io.BytesIO()
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    parts = [memoryview(content)[begin:end] for begin, end in pairwise(edges)]
    seal(file, parts, length=len(content), key=Key(secret), place=place)
    return file.getvalue()


def opened(path: Path, data: bytes, ring: Ring | None = RING, place: str = PLACE) -> bytes:
    path.write_bytes(data)
    return b"".join(unsealed(path, ring, place))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sealed") / "round-000001.safetensors"


@settings(max_examples=150, deadline=None)
@given(content=st.binary(min_size=1, max_size=100), cuts=st.lists(st.integers(0, 100), max_size=6))
def test_what_was_sealed_is_what_is_opened(path: Path, content: bytes, cuts: list[int]) -> None:
    data = sealed(content, *cuts)
    assert opened(path, data) == content
    assert len(data) == sealed_size(len(content))
    assert content_length(path) == len(content)
    assert is_sealed(path)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_no_byte_can_be_changed(path: Path, place: int, change: int) -> None:
    data = bytearray(sealed(bytes(range(70))))
    data[place % len(data)] ^= change
    with pytest.raises(Problem) as caught:
        opened(path, bytes(data))
    assert caught.value.remedy


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, 2**64 - 1), cut=st.integers(0, 231))
def test_no_byte_can_be_missing_and_no_claimed_length_is_believed(path: Path, length: int, cut: int) -> None:
    data = sealed(bytes(range(70)))
    assert len(data) == 232
    for attack in (data[:cut], data + data[-1 - cut :], data[:74] + length.to_bytes(8, "big") + data[82:]):
        if attack != data:
            with pytest.raises(Problem, match="damaged"):
                opened(path, attack)


def test_pieces_cannot_change_places_within_or_between_files(path: Path) -> None:
    one, two = sealed(b"a" * 32), sealed(b"a" * 32)
    first, second = slice(HEADER.size, HEADER.size + 32), slice(HEADER.size + 32, HEADER.size + 64)
    for attack in (
        one[: HEADER.size] + one[second] + one[first],
        one[: HEADER.size] + two[first] + one[second],
        one[: HEADER.size] + one[first] + one[first],
    ):
        with pytest.raises(Problem, match="was changed"):
            opened(path, attack)


@pytest.mark.parametrize("place", ["other/round-000001.safetensors", "study/round-000002.safetensors"])
def test_a_file_that_moved_to_another_study_or_round_is_noticed(path: Path, place: str) -> None:
    with pytest.raises(Problem, match="moved here from another study or round"):
        opened(path, sealed(b"content"), place=place)


def test_without_its_key_each_way_has_its_sentence(path: Path) -> None:
    data = sealed(b"content")
    for ring, sentence in (
        (None, "is sealed with a key, and site.toml names none"),
        (Ring(Path("other.key"), (OTHER,)), "is sealed with another key than other.key holds"),
        (Ring(Path("pass"), (SECRET,), passphrases=True), "is sealed with another key than pass holds"),
    ):
        with pytest.raises(Problem, match=sentence):
            opened(path, data, ring)
    with pytest.raises(Problem, match="does not know"):
        opened(path, data[:8] + b"\x02" + data[9:])
    assert opened(path, data, Ring(Path("both"), (OTHER, SECRET))) == b"content"


def test_no_file_shares_its_key_with_another() -> None:
    """The nonces within a file are the numbers of its pieces, so files must differ in their keys."""
    nonces = {sealed(b"the same")[42:74] for _ in range(200)}
    assert len(nonces) == 200


def test_the_form_by_hand(path: Path) -> None:
    """What another program needs to open a file: the header's fields, HKDF, and the number of a piece as its nonce."""
    data = sealed(b"0123456789abcdef" + b"ghij")
    assert data[:10] == b"PWSEAL\r\n\x01\x00"
    assert data[26:42] == bytes(16)
    assert int.from_bytes(data[74:82], "big") == 20
    key = HKDF(SHA256(), 32, data[42:74], b"polyward vault 1 file").derive(SECRET)
    bound = data[:82] + PLACE.encode()
    assert AESGCM(key).decrypt(bytes(12), data[82:114], bound) == b"0123456789abcdef"
    assert AESGCM(key).decrypt(bytes(11) + b"\x01", data[114:], bound) == b"ghij"
