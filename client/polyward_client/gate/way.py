"""The way out of a node in containers: a forwarding proxy that leads to the hub's address and nowhere else.

The gate's container is on a network that goes nowhere. Beside it is this one, with nothing mounted but the site's
file, on a second network as well. It knows one method, CONNECT, and of that the hub's two addresses, to the letter;
what passes is TLS between gate and hub, which it cannot read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from polyward_client.health import WAY_PORT
from polyward_client.site import Site
from polyward_shared.problems import Problem
from polyward_shared.whole import write_whole

NAME, PORT = "way", WAY_PORT  # on the gate's network
PROGRAM = "tinyproxy"

# FilterURLs: what is compared is host:port as asked for by CONNECT, and the whole address of any other method
SETTINGS = """\
Port {port}
Listen 0.0.0.0
Timeout 600
MaxClients 64
LogLevel Warning
DisableViaHeader Yes
Filter "{filter}"
FilterType ere
FilterURLs On
FilterCaseSensitive On
FilterDefaultDeny Yes
{ports}{upstream}"""


def become_the_way(site: Site, folder: Path) -> NoReturn:
    """Turns this process into the proxy; its settings lie in `folder`. Raises `Problem`."""
    addresses = addresses_of(site)
    allowed = folder / "way.filter"
    write_whole(allowed, filter_of(addresses).encode())
    write_whole(folder / "way.conf", settings_of(addresses, allowed, upstream_of(addresses)).encode())
    try:
        os.execvp(PROGRAM, [PROGRAM, "-d", "-c", str(folder / "way.conf")])  # noqa: S606  # no shell is wanted
    except FileNotFoundError:
        raise Problem(
            PROGRAM, "is not installed", remedy="use the gate's image, or install Debian's tinyproxy"
        ) from None


def addresses_of(site: Site) -> tuple[str, ...]:
    """The hub's, each once, as host:port. Raises `Problem`."""
    hub = site.file.hub
    if hub is None:
        raise Problem(str(site.path), "hub: is missing", remedy='add [hub] with address = "host:port"')
    return tuple(dict.fromkeys((hub.address, hub.control or hub.address)))


def filter_of(addresses: Sequence[str]) -> str:
    """A line for each address, a POSIX extended regular expression that nothing else matches."""
    return "".join(f"^{''.join(_literally(character) for character in address)}$\n" for address in addresses)


def _literally(character: str) -> str:
    return {".": "[.]", "[": r"\[", "]": r"\]"}.get(character, character)  # all that an address may hold


def settings_of(addresses: Sequence[str], allowed: Path, upstream: str) -> str:
    """tinyproxy.conf; `upstream` is host:port of the hospital's own proxy, with its password if it asks for one."""
    ports = sorted({int(address.rpartition(":")[2]) for address in addresses})
    return SETTINGS.format(
        port=PORT,
        filter=allowed,
        ports="".join(f"ConnectPort {port}\n" for port in ports),
        upstream=f"Upstream http {upstream}\n" if upstream else "",
    )


def upstream_of(addresses: Sequence[str]) -> str:
    """The proxy that the environment names for the hub: [user:password@]host:port, or nothing. Raises `Problem`."""
    proxies: Mapping[str, str] = getproxies()
    named = proxies.get("https", "")
    if not named or all(proxy_bypass(address) for address in addresses):
        return ""
    found = urlsplit(named if "://" in named else f"http://{named}")
    if found.scheme != "http" or not found.hostname:
        raise Problem("HTTPS_PROXY", f"found a proxy of kind {found.scheme!r}", expected="http://host:port")
    return found.netloc if found.port else f"{found.netloc}:80"
