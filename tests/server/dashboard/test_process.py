"""The dashboard's process: TLS, certificates that are renewed, secrets, and what programs ask."""

from __future__ import annotations

import shutil
import socket
import ssl
import stat
import time
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from cryptography import x509

from polyward_server import database
from polyward_server.dashboard.app import create_app
from polyward_server.dashboard.desk import Desk
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.tables import heads
from tests.support.certificates import Authority
from tests.support.dashboard import Served, served
from tests.support.story import tell


def test_programs_need_the_secret_that_the_hub_made(dashboard: Served) -> None:
    secret = dashboard.hub.metrics_secret
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    with dashboard.browser() as client:
        for given in ({}, {"authorization": "Bearer"}, {"authorization": "Bearer x"}, {"authorization": "Basic eDp5"}):
            assert client.get("/metrics", headers=given).status_code == 401
        answer = client.get("/metrics", headers={"authorization": f"Bearer {secret.read_text()}"})
        assert answer.status_code == 200
        assert answer.text.startswith("# HELP polyward_")
        assert client.get("/api/studies", headers={"authorization": f"Bearer {secret.read_text()}"}).status_code == 401
        assert client.get("/healthz").json() == "ok"
    with dashboard.browser("viewer") as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/openapi.json").json()["openapi"].startswith("3.")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_nothing_older_than_tls_1_2_is_spoken(dashboard: Served) -> None:
    context = ssl.create_default_context(cafile=dashboard.hub.ca)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    address = ("127.0.0.1", dashboard.hub.file.dashboard_port)
    with socket.create_connection(address) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    with pytest.raises(httpx.TransportError):
        httpx.get(dashboard.url.replace("https", "http"))


def test_a_certificate_that_is_renewed_is_taken_up(tmp_path: Path) -> None:
    hub = tell(tmp_path / "hub", rounds=1)
    authority = Authority.create()
    for name, content in zip(("mine.pem", "mine.key"), authority.server(), strict=True):
        (tmp_path / name).write_bytes(content)
    text = (hub.folder / "hub.toml").read_text()
    own = f'dashboard_certificate = "{tmp_path}/mine.pem"\ndashboard_key = "{tmp_path}/mine.key"\n'
    (hub.folder / "hub.toml").write_text(own + text)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    shutil.copy(tmp_path / "ca.pem", hub.ca)  # what the test's browsers trust
    with served(Hub(hub.folder)) as running:
        first = _shown(running, tmp_path)
        (tmp_path / "mine.key").write_bytes(b"half of it")
        time.sleep(0.5)
        assert _shown(running, tmp_path) == first
        certificate, key = authority.server()
        (tmp_path / "mine.key").write_bytes(key)
        (tmp_path / "mine.pem").write_bytes(certificate)
        deadline = time.monotonic() + 5
        while _shown(running, tmp_path) == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with running.browser() as client:
            assert client.get("/healthz").status_code == 200


def test_a_busy_ledger_is_told_in_words_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0)
    hub = tell(tmp_path / "hub", rounds=1)
    blocker = Ledger(hub.ledger)
    with served(hub) as running, running.browser("admin") as client:
        with blocker.engine.begin() as db:
            db.execute(heads.update().values(number=heads.c.number))  # as a round does while it is committed
            assert client.get("/api/studies").status_code == 200  # readers do not wait
            answer = client.post("/people/add", json={"name": "grace", "role": "viewer"})
            assert answer.status_code == 503
            assert "try again" in answer.json()["detail"]
        assert client.post("/people/add", json={"name": "grace", "role": "viewer"}).status_code == 200
    blocker.close()


def test_what_breaks_is_told_without_a_trace(tmp_path: Path) -> None:
    hub = tell(tmp_path / "hub", rounds=1)
    with served(hub) as running, running.browser("admin") as client:
        with running.ledger.engine.begin() as db:
            db.execute(sa.text("UPDATE members SET counts = 'no JSON'"))
            db.execute(sa.text("UPDATE rounds SET variants = 'no JSON'"))
            db.execute(sa.text("UPDATE studies SET text = 'no JSON'"))
        for accept, kind in (("text/html", "text/html"), ("application/json", "application/json")):
            answer = client.get("/", headers={"accept": accept})
            assert answer.status_code == 500
            assert answer.headers["content-type"].startswith(kind)
            assert "Traceback" not in answer.text
            assert "json" not in answer.text.lower() or kind == "application/json"
            assert "content-security-policy" in answer.headers
        assert client.get("/healthz").status_code == 200


def test_a_hub_that_is_named_otherwise_answers_to_those_names(tmp_path: Path) -> None:
    hub = tell(tmp_path / "hub", rounds=1)
    text = (hub.folder / "hub.toml").read_text()
    (hub.folder / "hub.toml").write_text('dashboard_names = ["polyward.hospital.example"]\n' + text)
    with served(Hub(hub.folder)) as running, running.browser() as client:
        for host, status in (("polyward.hospital.example", 200), ("hospital.example", 400)):
            assert client.get("/sign-in", headers={"host": host}).status_code == status


def test_an_application_is_made_without_a_provider(tmp_path: Path) -> None:
    desk = Desk.of(tell(tmp_path / "hub", rounds=1))
    paths = {getattr(each, "path", "") for each in create_app(desk).routes}
    desk.ledger.close()
    assert "/sign-in/provider" not in paths


def _shown(running: Served, folder: Path) -> int:
    """The serial number of the certificate that the dashboard shows."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    address = ("127.0.0.1", running.hub.file.dashboard_port)
    with (
        socket.create_connection(address, timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        found = secured.getpeercert(binary_form=True)
    assert found is not None
    return x509.load_der_x509_certificate(found).serial_number
