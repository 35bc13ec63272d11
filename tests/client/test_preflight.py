"""Each line of the preflight, against real servers: what it finds when the thing works, and when it does not."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

import polyward_client.cli.running  # noqa: F401  # which adds its commands
from polyward_client.cli.app import app
from polyward_client.preflight import (
    Finding,
    certificate_finding,
    clock_finding,
    disk_finding,
    folder_findings,
    isolation_finding,
    name_finding,
    network_findings,
    version_findings,
)
from polyward_client.site import Site, read_site
from polyward_client.trainer.preflight import batch_findings, device_finding
from polyward_shared import pki
from tests.support.certificates import Authority
from tests.support.hub import free_port
from tests.support.images import make_study, write_site

NOW = 1_800_000_000.0


@contextmanager
def hub(
    authority: Authority,
    folder: Path,
    *,
    lifetime: timedelta = timedelta(days=40),
    skew: float = 0,
    host: str = "127.0.0.1",
) -> Iterator[int]:
    """A TLS server on the loopback that answers 404 as the hub's door does; its clock is `skew` seconds ahead."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(datetime.now(UTC).timestamp() + skew, usegmt=True)

        def log_message(self, format: str, *args: object) -> None:
            pass

    certificate, key = authority.server(lifetime=lifetime)
    (folder / "server.pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    with ThreadingHTTPServer((host, 0), Door) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # who refuses us
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def site_at(folder: Path, port: int, ca: bytes, host: str = "127.0.0.1") -> Site:
    (folder / "ca.pem").write_bytes(ca)
    (folder / "images").mkdir(exist_ok=True)
    path = folder / "site.toml"
    path.write_text(f'name = "a"\n[data]\nroot = "images"\n[hub]\naddress = "{host}:{port}"\n')
    return read_site(path)


def verdicts(found: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.verdict for finding in found}


def test_a_hub_that_is_well(tmp_path: Path) -> None:
    authority = Authority.create()
    with hub(authority, tmp_path) as port:
        found = list(network_findings(site_at(tmp_path, port, authority.pem)))
    assert verdicts(found) == {"hub: name": "ok", "hub: port": "ok", "hub: TLS": "ok", "clock": "ok"}
    assert "good for 40 days" in found[2].found


def test_another_hubs_ca(tmp_path: Path) -> None:
    with hub(Authority.create(), tmp_path) as port:
        last = list(network_findings(site_at(tmp_path, port, Authority.create().pem)))[-1]
    assert (last.what, last.verdict) == ("hub: TLS", "FAIL")
    assert "is another hub's" in last.remedy


def test_an_expired_certificate(tmp_path: Path) -> None:
    authority = Authority.create()
    with hub(authority, tmp_path, lifetime=timedelta(hours=-1)) as port:
        last = list(network_findings(site_at(tmp_path, port, authority.pem)))[-1]
    assert (last.what, last.verdict) == ("hub: TLS", "FAIL")
    assert "expired" in last.found
    assert "renew" in last.remedy


def test_a_certificate_that_ends_soon(tmp_path: Path) -> None:
    authority = Authority.create()
    with hub(authority, tmp_path, lifetime=timedelta(days=3)) as port:
        found = {each.what: each for each in network_findings(site_at(tmp_path, port, authority.pem))}
    assert found["hub: TLS"].verdict == "warn"


def test_a_certificate_for_another_host(tmp_path: Path) -> None:
    authority = Authority.create()
    with hub(authority, tmp_path, host="127.0.0.2") as port:
        last = list(network_findings(site_at(tmp_path, port, authority.pem, host="127.0.0.2")))[-1]
    assert (last.what, last.verdict) == ("hub: TLS", "FAIL")
    assert "another host" in last.remedy


def test_a_clock_that_is_wrong(tmp_path: Path) -> None:
    authority = Authority.create()
    with hub(authority, tmp_path, skew=-600) as port:
        last = list(network_findings(site_at(tmp_path, port, authority.pem)))[-1]
    assert (last.what, last.verdict) == ("clock", "FAIL")
    assert "ahead of the hub's" in last.found
    assert "timedatectl" in last.remedy


@pytest.mark.parametrize(("ahead", "verdict"), [(0, "ok"), (6, "FAIL"), (-6, "warn"), (-299, "warn"), (-301, "FAIL")])
def test_how_much_the_clocks_may_differ(ahead: float, verdict: str) -> None:
    assert clock_finding(formatdate(NOW - ahead, usegmt=True), NOW).verdict == verdict


def test_a_closed_port_and_an_unknown_name(tmp_path: Path) -> None:
    found = list(network_findings(site_at(tmp_path, free_port(), Authority.create().pem)))
    assert verdicts(found) == {"hub: name": "ok", "hub: port": "FAIL"}
    assert "outgoing TCP" in found[-1].remedy
    assert name_finding("hub", "no-such-host.invalid").verdict == "FAIL"


def test_something_else_behind_the_port(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        last = list(network_findings(site_at(tmp_path, server.server_port, Authority.create().pem)))[-1]
        server.shutdown()
        thread.join()
    assert (last.what, last.verdict) == ("hub: TLS", "FAIL")


def test_a_proxy_is_recognised_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(403)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        found = list(network_findings(site_at(tmp_path, 443, Authority.create().pem, host="hub.example.org")))
        server.shutdown()
        thread.join()
    assert verdicts(found) == {"hub: proxy": "ok", "hub: name": "ok", "hub: port": "ok", "hub: TLS": "FAIL"}
    assert asked == ["hub.example.org:443"]
    assert "403" in found[-1].found


def test_the_nodes_own_certificate(tmp_path: Path) -> None:
    site = site_at(tmp_path, 1, b"")
    now = datetime.now(UTC)
    assert certificate_finding(site, now).verdict == "FAIL"
    key, (authority_key, authority) = pki.new_key(), pki.new_authority("ca")
    pki.write_secret(site.key, pki.key_to_pem(key))
    assert certificate_finding(site, now).verdict == "warn"
    certificate = pki.new_node_certificate("a", key.public_key(), timedelta(days=7), authority_key, authority)
    site.certificate.write_bytes(pki.certificate_to_pem(certificate))
    assert certificate_finding(site, now).verdict == "ok"
    assert certificate_finding(site, now + timedelta(days=8)).verdict == "FAIL"
    site.key.chmod(0o644)
    assert "chmod 600" in certificate_finding(site, now).remedy


@pytest.mark.parametrize(("free", "verdict"), [(1 << 29, "FAIL"), (2 << 30, "warn"), (11 << 30, "ok")])
def test_room_on_the_disk(free: int, verdict: str) -> None:
    found = disk_finding("state", Path("/x"), free)
    assert found.verdict == verdict
    assert bool(found.remedy) == (verdict != "ok")


def test_folders_that_others_may_read(tmp_path: Path) -> None:
    site = site_at(tmp_path, 1, b"")
    assert verdicts(list(folder_findings(site)))["folders"] == "ok"
    site.trainer.chmod(0o755)
    found = {finding.what: finding for finding in folder_findings(site)}
    assert (found["folders"].verdict, found["folders"].remedy) == ("FAIL", f"chmod 700 {site.trainer}")


def test_images_that_cannot_be_trained_on_yet(tmp_path: Path) -> None:
    site = site_at(tmp_path, 1, b"")

    def images() -> Finding:
        return next(each for each in folder_findings(read_site(site.path)) if each.what == "images")

    assert (images().verdict, images().remedy.split(": ")[1]) == ("FAIL", f"polyward-node manifest {site.path}")
    site.manifest.write_text("path,patient_id,split\n")
    assert images().verdict == "warn"  # the site names no task
    site.path.write_text('tasks = ["mask"]\n' + site.path.read_text())
    assert images().verdict == "ok"
    site.manifest.unlink()
    site.root.rmdir()
    assert images().verdict == "FAIL"


def test_isolation_is_tried(tmp_path: Path) -> None:
    site = site_at(tmp_path, 1, b"")
    assert isolation_finding(site).verdict == "warn"  # the folders are not there yet
    list(folder_findings(site))
    assert isolation_finding(site).verdict == "ok"
    site.path.write_text(site.path.read_text() + "[isolation]\nrequire = false\n")
    assert isolation_finding(read_site(site.path)).verdict == "warn"


def test_versions_are_named() -> None:
    (found,) = version_findings()
    assert found.verdict == "ok"
    for name in ("polyward 0", "torch 2", "monai 1", "flwr 1", "Python 3"):
        assert name in found.found


def test_a_batch_of_each_task(tmp_path: Path) -> None:
    study = make_study(tasks=("bright", "mask"))
    site = write_site(tmp_path, tasks=("bright", "mask"))
    assert device_finding(site).verdict == "ok"
    found = list(batch_findings(site, study))
    assert verdicts(found) == {"task bright": "ok", "task mask": "ok"}
    assert [each.verdict for each in batch_findings(site, make_study(tasks=("grade",)))] == ["FAIL"]


def test_the_command_fails_with_2_and_speaks_json(tmp_path: Path) -> None:
    site = site_at(tmp_path, free_port(), Authority.create().pem)
    done = CliRunner().invoke(app, ["preflight", str(site.path), "--json"])
    assert done.exit_code == 2
    lines = json.loads(done.stdout)
    assert {"what": "hub: port", "verdict": "FAIL"}.items() <= next(
        e for e in lines if e["what"] == "hub: port"
    ).items()
    assert all(line["remedy"] for line in lines if line["verdict"] == "FAIL")
