"""An invitation survives mail programs, and anything else is one clear error."""

from __future__ import annotations

import base64
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_shared.invitation import LONGEST, PREFIX, Invitation, read_invitation, written
from polyward_shared.problems import Problem

PLAIN = Invitation(
    site="north",
    address="hub.example.org:8443",
    control="hub.example.org:8444",
    authority="ab" * 32,
    token="t" * 43,
    expires=1_800_000_000,
)


def test_it_is_read_as_it_was_written_whatever_mail_did_to_it() -> None:
    text = written(PLAIN)
    assert read_invitation(text) == PLAIN
    wrapped = " \n".join(text[i : i + 60] for i in range(0, len(text), 60))
    assert read_invitation(f"\n{wrapped}\r\n") == PLAIN


def packed(data: object) -> str:
    return PREFIX + base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected one string that begins with polyward1."),
        ("polyward2.abc", "begins with 'polyward2.ab'"),
        (PREFIX, "is damaged"),
        (written(PLAIN)[:-20], "is damaged"),
        (PREFIX + "!" * 8, "is damaged"),
        (PREFIX + "e" * LONGEST, "begins with"),
        (packed([]), "expected"),
        (packed({**PLAIN.model_dump(), "site": "../etc"}), "site: found"),
        (packed({**PLAIN.model_dump(), "address": "hub"}), "address: found 'hub'; expected host:port"),
        (packed({**PLAIN.model_dump(), "token": "short"}), "token: found"),
        (packed({**PLAIN.model_dump(), "run": "x"}), "run: this key is unknown"),
    ],
)
def test_what_is_no_invitation(text: str, message: str) -> None:
    with pytest.raises(Problem, match=message):
        read_invitation(text)


@given(st.one_of(st.text(), st.binary().map(lambda b: PREFIX + base64.urlsafe_b64encode(b).decode())))
def test_anything_is_an_invitation_or_a_problem(text: str) -> None:
    with suppress(Problem):
        assert written(read_invitation(text)).startswith(PREFIX)


@pytest.mark.parametrize("address", ["hub:8443", "hub.example.org:443", "10.0.0.1:65535", "[::1]:8443"])
def test_addresses(address: str) -> None:
    assert read_invitation(packed({**PLAIN.model_dump(), "address": address})).address == address


@pytest.mark.parametrize(
    "address",
    [
        "hub:0",
        "hub:65536",
        "hub:08443",
        "hub",
        ":1",
        "::80",
        "[::1::]:1",
        "[::1:5",
        "a..b:1",
        "-:1",
        "a" * 64 + ":1",
        "327.0.0.1:1",
    ],
)
def test_what_no_client_can_dial_is_no_address(address: str) -> None:
    with pytest.raises(Problem, match=r"address: found .* expected host:port"):
        read_invitation(packed({**PLAIN.model_dump(), "address": address}))
