"""Everything that a node needs of the network and of this machine, tried one by one, each with what to do if it fails.

The steps are in the order in which they rest on each other: what cannot be tried because an earlier step failed is
left out.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from cryptography import x509
from rich.console import Console
from rich.text import Text

from polyward_client.node import try_isolation
from polyward_client.parts import PARTS, make_folders, start_of, users_of
from polyward_client.site import Site
from polyward_shared.pki import read_certificate, read_key
from polyward_shared.problems import Problem
from polyward_shared.proxy import spare_loopback_the_proxy
from polyward_shared.study import Study

Verdict = Literal["ok", "warn", "FAIL"]

PATIENCE = 10.0  # seconds for one step of the network
AHEAD, BEHIND, NOTED = (
    5.0,
    300.0,
    5.0,
)  # seconds between this clock and the hub's: the hub refuses, or it is worth a word
LEAST_FREE, LITTLE_FREE = 1 << 30, 10 << 30  # bytes
SOON_DAYS = 14
EXPIRED, NOT_YET, OTHER_NAME, OTHER_IP = 10, 9, 62, 64  # X509_V_ERR_* of OpenSSL
PACKAGES = ("polyward", "torch", "monai", "flwr")
STYLES = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, and what to do unless it is ok."""

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""


def findings(site: Site, study: Study | None = None) -> Iterator[Finding]:
    """One by one, as they are found."""
    yield from network_findings(site)
    yield certificate_finding(site, datetime.now(UTC))
    yield from folder_findings(site)
    yield isolation_finding(site)
    yield from version_findings()
    from polyward_client.trainer.preflight import batch_findings, device_finding  # importing torch takes seconds

    yield device_finding(site)
    if study is not None:
        yield from batch_findings(site, study)


def network_findings(site: Site) -> Iterator[Finding]:
    """Name, port, proxy, TLS and clock, for each of the hub's addresses."""
    if site.file.hub is None:
        yield Finding("hub", "FAIL", "the site's file names none", 'add [hub] with address = "host:port"')
        return
    if not site.ca.is_file():
        yield Finding("hub's CA", "FAIL", f"{site.ca} is not there", "copy the hub's ca.pem there")
        return
    spare_loopback_the_proxy()
    yield from _address_findings("hub", site.file.hub.address, site.ca, clock=True)
    if site.file.hub.control:
        yield from _address_findings("control plane", site.file.hub.control, site.ca, clock=False)


def _address_findings(what: str, address: str, ca: Path, *, clock: bool) -> Iterator[Finding]:
    host, _, port_text = address.rpartition(":")
    host, port = host.strip("[]"), int(port_text)
    proxy = _proxy_for(host, port)
    if proxy is not None:
        yield Finding(f"{what}: proxy", "ok", f"{proxy[0]}:{proxy[1]} is asked to connect to {host}:{port}")
    near = proxy or (host, port)
    found = name_finding(what, near[0])
    yield found
    if found.verdict == "FAIL":
        return
    found = port_finding(what, *near)
    yield found
    if found.verdict == "FAIL":
        return
    yield from tls_findings(what, host, port, ca, proxy, clock=clock)


def _proxy_for(host: str, port: int) -> tuple[str, int] | None:
    """The HTTP proxy that the environment names for this host, if any."""
    named = getproxies().get("https")
    if not named or proxy_bypass(f"{host}:{port}"):
        return None
    parts = urlsplit(named if "//" in named else f"//{named}")
    return (parts.hostname or "", parts.port or 3128)


def name_finding(what: str, host: str) -> Finding:
    try:
        addresses = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError as error:
        remedy = "compare the name with the hub's invitation; ask your IT office whether this machine may resolve it"
        return Finding(f"{what}: name", "FAIL", f"{host} is not known here ({error.strerror})", remedy)
    return Finding(f"{what}: name", "ok", f"{host} is {', '.join(addresses[:3])}")


def port_finding(what: str, host: str, port: int) -> Finding:
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        remedy = (
            f"ask your IT office to allow outgoing TCP from this machine to {host}:{port}; "
            "if it is allowed, ask the coordinator whether the hub runs"
        )
        return Finding(f"{what}: port", "FAIL", f"{host}:{port} cannot be reached ({reason})", remedy)
    return Finding(f"{what}: port", "ok", f"{host}:{port} answers")


def tls_findings(
    what: str, host: str, port: int, ca: Path, proxy: tuple[str, int] | None, *, clock: bool
) -> Iterator[Finding]:
    """The hub's certificate, checked against its CA as the gate does, and its clock, from the answer to a request."""
    try:
        context = ssl.create_default_context(cafile=str(ca))
    except (ssl.SSLError, OSError):
        yield Finding(f"{what}: TLS", "FAIL", f"{ca} is no certificate", "copy the hub's ca.pem there again")
        return
    connection = http.client.HTTPSConnection(*(proxy or (host, port)), timeout=PATIENCE, context=context)
    if proxy is not None:
        connection.set_tunnel(host, port)
    try:
        connection.connect()
        yield _certificate_of_hub(what, connection)
        if clock:
            connection.request("GET", "/")
            yield clock_finding(connection.getresponse().headers.get("date"), time.time())
    except ssl.SSLCertVerificationError as error:
        yield Finding(f"{what}: TLS", "FAIL", error.verify_message, _tls_remedy(error.verify_code, ca))
    except (OSError, http.client.HTTPException) as error:
        remedy = "ask your IT office whether a proxy or firewall stands between; is this the hub's address?"
        yield Finding(f"{what}: TLS", "FAIL", f"no answer that makes sense ({error})", remedy)
    finally:
        connection.close()


def _certificate_of_hub(what: str, connection: http.client.HTTPSConnection) -> Finding:
    shown = x509.load_der_x509_certificate(connection.sock.getpeercert(binary_form=True) or b"")
    days = (shown.not_valid_after_utc.timestamp() - time.time()) / 86400
    if days < SOON_DAYS:
        return Finding(f"{what}: TLS", "warn", f"the hub's certificate ends in {days:.0f} days", "tell the coordinator")
    return Finding(f"{what}: TLS", "ok", f"the hub's CA has signed the certificate, good for {days:.0f} days")


def _tls_remedy(code: int, ca: Path) -> str:
    if code in {EXPIRED, NOT_YET}:
        return "if this machine's clock is right, tell the coordinator to renew the hub's certificate"
    if code in {OTHER_NAME, OTHER_IP}:
        return "the certificate is for another host: compare hub.address with the invitation"
    return (
        f"either {ca} is another hub's: compare its fingerprint with the coordinator; or something between opens TLS: "
        "ask your IT office to exempt the hub"
    )


def clock_finding(date: str | None, now: float) -> Finding:
    """`date` is the hub's Date header, `now` seconds since 1970 by this machine."""
    if date is None:
        return Finding("clock", "warn", "the hub does not say what time it is", "see that this machine's time is right")
    ahead = now - parsedate_to_datetime(date).timestamp()
    found = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the hub's"
    remedy = "set the clock, and let it be kept: timedatectl set-ntp true"
    if ahead > AHEAD or ahead < -BEHIND:
        return Finding("clock", "FAIL", f"{found}: the hub refuses signatures", remedy)
    return Finding("clock", "warn", found, remedy) if abs(ahead) > NOTED else Finding("clock", "ok", found)


def certificate_finding(site: Site, now: datetime) -> Finding:
    """The node's own key and certificate."""
    try:
        read_key(site.key)
        if not site.certificate.exists():
            remedy = "enrol with an invitation: polyward-node enrol INVITATION"
            return Finding("node's certificate", "warn", "a key, and no certificate", remedy)
        left = (read_certificate(site.certificate).not_valid_after_utc - now).total_seconds()
    except Problem as problem:
        return Finding("node's certificate", "FAIL", f"{problem.where}: {problem.found}", problem.remedy)
    if left <= 0:
        remedy = "ask the coordinator for a new invitation, and enrol again"
        return Finding("node's certificate", "FAIL", f"ended {-left / 3600:.0f} hours ago", remedy)
    return Finding("node's certificate", "ok", f"good for {left / 86400:.1f} days; a running node renews it")


def folder_findings(site: Site) -> Iterator[Finding]:
    """The images' folder, the site's own folders, and the disks they are on."""
    if not site.root.is_dir():
        yield Finding("images", "FAIL", f"{site.root} is not there", f"mend data.root in {site.path}, or mount it")
    elif not os.access(site.root, os.R_OK | os.X_OK):
        yield Finding("images", "FAIL", f"{site.root} may not be read", "let this user read it")
    elif not site.manifest.is_file():
        remedy = f"put the images there, then: polyward-node manifest {site.path}"
        yield Finding("images", "FAIL", f"{site.manifest} is not there", remedy)
    elif not site.file.tasks:
        yield Finding("images", "warn", "tasks: this site names none", f"name those that it trains in {site.path}")
    else:
        yield Finding("images", "ok", f"{site.root.resolve()} can be read")
    try:
        if site.root.is_dir():
            make_folders(site)
        users = users_of(site)
    except Problem as problem:
        yield Finding("folders", "FAIL", f"{problem.where}: {problem.found}", problem.remedy)
        return
    if not site.port.is_dir():
        return
    wrong = []
    for folder, owner in ((site.gate, users.get("gate")), (site.trainer, users.get("trainer"))):
        found = folder.stat()
        if stat.S_IMODE(found.st_mode) & 0o077:
            wrong.append(f"chmod 700 {folder}")
        if found.st_uid != (owner.id if owner else os.geteuid()):
            wrong.append(f"chown -R {owner.id if owner else os.geteuid()} {folder}")
    if wrong:
        yield Finding("folders", "FAIL", f"{site.state}: others may read what they must not", "; ".join(wrong))
    else:
        yield Finding("folders", "ok", f"{site.state} is whose it should be")
    for name, path in (("state", site.state), ("spool", site.port)):
        yield disk_finding(name, path, shutil.disk_usage(path).free)


def disk_finding(name: str, path: Path, free: int) -> Finding:
    """`free` in bytes."""
    verdict: Verdict = "FAIL" if free < LEAST_FREE else "warn" if free < LITTLE_FREE else "ok"
    remedy = "" if verdict == "ok" else f"make room: {LITTLE_FREE >> 30} GB let it work for long"
    return Finding(f"disk of the {name}", verdict, f"{free / 2**30:.1f} GB free at {path}", remedy)


def isolation_finding(site: Site) -> Finding:
    """Whether both processes can be isolated, by doing it."""
    if not site.file.isolation.require:
        remedy = "remove require = false under [isolation] if this machine can"
        return Finding("isolation", "warn", "off: the trainer has the network, the gate could open images", remedy)
    if not site.port.is_dir():
        return Finding("isolation", "warn", "not tried: the folders are not there", "mend what stands above")
    try:
        users = users_of(site)
        try_isolation(site, [start_of(site, part, users.get(part)) for part in PARTS])
    except Problem as problem:
        return Finding("isolation", "FAIL", f"{problem.where}: {problem.found}", problem.remedy)
    return Finding("isolation", "ok", "the trainer has no network, the gate no images")


def version_findings() -> Iterator[Finding]:
    """Python and the packages that decide whether two sites get the same numbers."""
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            remedy = f"install them: pip install 'polyward[client]' ({sys.executable})"
            yield Finding("versions", "FAIL", f"{name} is not installed", remedy)
            return
    yield Finding("versions", "ok", ", ".join([*(f"{name} {number}" for name, number in found.items()), python]))


def print_findings(found: Sequence[Finding], console: Console) -> None:
    width = max(len(finding.what) for finding in found)
    for each in found:
        line = Text.assemble((f"{each.verdict:5}", STYLES[each.verdict]), f"{each.what:{width}}  {each.found}")
        console.print(line, soft_wrap=True)
        if each.remedy:
            console.print(Text(f"{'':5}{'':{width}}  what to do: {each.remedy}"), soft_wrap=True)


def to_json(found: Sequence[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in found], indent=1)
