"""A hub's folder: made once, complete, private, and readable again."""

from __future__ import annotations

import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from polyward_server.hub import EVERYWHERE, Hub, bind_address, free_port, init, listening, renew_certificate, serve
from polyward_shared import pki
from polyward_shared.pki import read_key
from polyward_shared.problems import Problem
from polyward_shared.supervise import only_one


def made(folder: Path, **changes: object) -> Hub:
    values: dict[str, object] = {"name": "polyward hub", "host": "127.0.0.1", "port": 8443, **changes}
    return init(folder, **values)  # type: ignore[arg-type]


def test_what_init_makes_is_a_hub(tmp_path: Path) -> None:
    hub = made(tmp_path / "hub", name='The "north" hub \\ 1', also=["hub.example.org"])
    assert Hub(tmp_path / "hub").file == hub.file
    assert hub.file.name == 'The "north" hub \\ 1'
    secrets = sorted((hub.folder / "secrets").iterdir())
    assert [path.name for path in secrets] == ["ca.key", "private", "server.key", "superexec"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
    assert hub.private_secret.read_bytes() != hub.superexec_secret.read_bytes()
    assert len(hub.private_secret.read_bytes()) == 64
    authority = x509.load_pem_x509_certificate(hub.ca.read_bytes())
    server = x509.load_pem_x509_certificate((hub.folder / "server.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hub.example.org", "localhost"]
    assert read_key(hub.folder / "secrets" / "server.key").public_key() == server.public_key()


def test_a_hub_is_never_overwritten(tmp_path: Path) -> None:
    before = made(tmp_path).ca.read_bytes()
    with pytest.raises(Problem, match="holds a hub already"):
        made(tmp_path)
    assert (tmp_path / "ca.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": 99999}, "port: found 99999; expected less than or equal to 65535"),
        ({"port": 0}, "port: found 0"),
        ({"host": "https://hub"}, "host: found 'https://hub'; expected a host name"),
        ({"host": ""}, "host: found ''; expected at least 1 characters"),
        ({"name": "x" * 61}, "name: found .* expected at most 60 characters"),
        ({"also": ["a b"]}, "host: found 'a b'"),
    ],
)
def test_what_cannot_be_a_hub_leaves_nothing_behind(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(Problem, match=message):
        made(tmp_path / "hub", **change)
    assert not (tmp_path / "hub").exists()
    made(tmp_path / "hub")


def test_another_folder_is_no_hub(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="is not a hub's folder") as caught:
        Hub(tmp_path)
    assert "polyward-hub init" in caught.value.remedy


def test_a_hub_runs_once(tmp_path: Path) -> None:
    hub = made(tmp_path)
    held = only_one(hub.lock, "a test")
    with pytest.raises(Problem, match="is already running"):
        serve(hub, threading.Event())
    os.close(held)


def test_a_served_hub_that_is_told_to_stop_starts_nothing_and_says_where_its_parts_are(tmp_path: Path) -> None:
    hub = made(tmp_path)
    stop = threading.Event()
    stop.set()
    serve(hub, stop)
    config = json.loads((hub.folder / "superlink.json").read_text())
    assert (config["host"], config["port"], config["private_port"]) == ("127.0.0.1", 8443, hub.file.private_port)
    assert "secret" not in " ".join(str(value) for value in config.values() if not str(value).startswith("/"))


def test_an_old_certificate_is_renewed_at_a_start_for_the_same_key_and_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(pki, "SERVER_LIFETIME", timedelta(0))
        hub = made(tmp_path / "hub", host="hub.example.org", gateway="gate.example.org:443")
    old = pki.read_certificate(hub.certificate)
    stop = threading.Event()
    stop.set()
    serve(hub, stop)
    new = pki.read_certificate(hub.certificate)
    assert new.not_valid_after_utc > datetime.now(UTC) + timedelta(days=396)
    assert new.public_key() == old.public_key()
    assert pki.hosts_of(new) == ["hub.example.org", "gate.example.org", "localhost", "127.0.0.1"]
    new.verify_directly_issued_by(pki.read_certificate(hub.ca))
    renew_certificate(hub)
    assert pki.read_certificate(hub.certificate) == new  # young ones stay


def test_a_free_port_can_be_had() -> None:
    assert 1024 <= free_port() <= 65535


def test_in_a_container_all_listen_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [bind_address(host) for host in ("localhost", "127.0.0.2", "::1", "hub.example.org", "10.0.0.1")] == [
        *("127.0.0.1", "127.0.0.2", "::1", EVERYWHERE, EVERYWHERE)
    ]
    assert listening("192.0.2.1") == "192.0.2.1"
    monkeypatch.setenv("POLYWARD_LISTEN", "::")
    assert {bind_address("localhost"), bind_address("hub.example.org"), listening("127.0.0.1")} == {"::"}


def test_a_word_in_place_of_that_address_stops_the_hub_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = made(tmp_path)
    monkeypatch.setenv("POLYWARD_LISTEN", "everywhere")
    with pytest.raises(Problem, match="POLYWARD_LISTEN: found 'everywhere'; expected an IP address"):
        serve(hub, threading.Event())
