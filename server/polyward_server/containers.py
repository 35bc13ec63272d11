"""The hub in a container, and its gateway in another, as hub.toml says.

The hub's folder lies at the same path inside. Whom its ports reach, the engine decides: what is for this machine alone
is published on its loopback alone, and with a gateway sites reach that one port only.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polyward_server.hub import Hub, reached_at
from polyward_shared.containers import (
    CLOCK,
    LABEL,
    PART_LABEL,
    Engine,
    Mount,
    Wanted,
    discard,
    found,
    image_named,
    make_all,
    network_of,
    owner_of,
    renew,
    settle,
    stands,
    start,
    wait_until_healthy,
)
from polyward_shared.problems import Problem
from polyward_shared.supervise import holder

HEALTHY_SECONDS = 90.0
HUB_LABEL = f"{LABEL}.hub"  # of all that belongs to one hub: its folder
INSIDE = 8443  # the gateway's own port


def name_of(hub: Hub) -> str:
    """The hub's container, and its network."""
    return f"polyward-hub-{re.sub(r'[^a-z0-9_.-]+', '-', hub.folder.name.lower()).strip('-.') or 'hub'}"


def labels_of(hub: Hub) -> dict[str, str]:
    return {HUB_LABEL: str(hub.folder)}


def wanted_of(hub: Hub, version: str = "") -> list[Wanted]:
    """The hub's container, and the gateway's where hub.toml names one. Raises `Problem`."""
    file, name = hub.file, name_of(hub)
    user = owner_of(hub.folder)
    dashboard = {file.dashboard_port: (_address(file.dashboard_host), file.dashboard_port)}
    straight = {port: (reached_at(file.host), port) for port in (file.port, file.control_port)}
    made = Wanted(
        name=name,
        image=image_named("hub", version),
        command=("serve", str(hub.folder)),
        user=user,
        mounts=tuple(_mounts(hub)),
        networks=(name,),
        aliases=("hub",),
        ports=dashboard | ({} if file.gateway else straight),
        labels={**labels_of(hub), PART_LABEL: "hub"},
        health=("python", "-m", "polyward_server.health", str(hub.folder)),
    )
    if not file.gateway:
        return [made]
    host, _, port = file.gateway.rpartition(":")
    gateway = Wanted(
        name=f"{name}-gateway",
        image=image_named("gateway", version),
        command=(),
        user=user,
        mounts=(),
        networks=(name,),
        aliases=("gateway",),
        ports={INSIDE: (reached_at(host.strip("[]")), int(port))},
        environment={
            "POLYWARD_GATEWAY_LISTEN": str(INSIDE),
            "POLYWARD_GATEWAY_FLEET": f"hub:{file.port}",
            "POLYWARD_GATEWAY_CONTROL": f"hub:{file.control_port}",
        },
        labels={**labels_of(hub), PART_LABEL: "gateway"},
        memory_gigabytes=0.5,
        processes=64,
    )
    return [made, gateway]


def bring_up(engine: Engine, hub: Hub, wanted: Sequence[Wanted]) -> None:
    """Makes and starts what is not there, and waits until all is well. What stands as wanted stays.

    Raises `Problem`; containers made here are then gone.
    """
    _check_own(engine, hub, wanted)
    settle(engine, [one.name for one in wanted])
    absent = []
    for one in wanted:
        match stands(engine, one):
            case "absent":
                absent.append(one)
            case "as wanted":
                pass
            case other:
                raise Problem(one.name, f"is there with {other}", remedy=f"polyward-hub update {hub.folder}")
    if wanted[0] in absent:
        _nobody_serves(hub)
    network_of(engine, name_of(hub), internal=False, labels=labels_of(hub))
    made = make_all(engine, absent)
    try:
        containers = [found(engine, one.name) for one in wanted]
        for container in containers:
            start(container)
        wait_until_healthy(containers, HEALTHY_SECONDS)
    except BaseException:
        discard(made)
        raise


def bring_up_to_date(engine: Engine, hub: Hub, wanted: Sequence[Wanted]) -> None:
    """New containers in the place of those that are there; if they fail, the old ones again. Raises `Problem`."""
    if found(engine, wanted[0].name) is None:
        raise Problem(wanted[0].name, "there is no such container", remedy=f"polyward-hub up {hub.folder}")
    _check_own(engine, hub, wanted)
    network_of(engine, name_of(hub), internal=False, labels=labels_of(hub))
    before = set(_copies(hub))
    try:
        renew(engine, wanted, HEALTHY_SECONDS)
    except Problem as problem:
        if changed := sorted(set(_copies(hub)) - before):
            raise Problem(
                problem.where,
                f"{problem.found}\n  but the ledger has the newer version's tables by now",
                remedy=f"polyward-hub down {hub.folder}, put {changed[0].name} in the place of ledger.db, and "
                "bring the older version up",
            ) from None
        raise


def containers_of(engine: Engine, hub: Hub) -> list[Any]:
    """Those that are there, the hub's own first."""
    names = (name_of(hub), f"{name_of(hub)}-gateway")
    return [
        there for name in names if (there := found(engine, name)) and there.labels.get(HUB_LABEL) == str(hub.folder)
    ]


def places(wanted: Sequence[Wanted]) -> list[tuple[str, str]]:
    """Container and address of each port that is published."""
    return [(one.name, f"{address}:{port}") for one in wanted for address, port in one.ports.values()]


def _mounts(hub: Hub) -> list[Mount]:
    """The hub's folder, and what hub.toml names elsewhere."""
    file = hub.file
    named = [file.dashboard_certificate, file.dashboard_key, file.oidc.authority if file.oidc else None]
    elsewhere = [path for path in named if path is not None and hub.folder not in path.resolve().parents]
    mounts = [Mount(hub.folder, hub.folder, writable=True)]
    for path in dict.fromkeys(elsewhere):
        if not path.is_file():
            raise Problem(str(path), "hub.toml names this file, and it is not there")
        mounts.append(Mount(path.resolve(), path.absolute()))
    return [*mounts, Mount(CLOCK.resolve(), CLOCK)] if CLOCK.exists() else mounts


def _address(host: str) -> str:
    """Of this machine, to publish the dashboard on."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.gethostbyname(host)
    except OSError:
        raise Problem(
            "hub.toml: dashboard_host",
            f"found {host!r}, which is no address of this machine",
            remedy='write the address, such as "127.0.0.1", or "0.0.0.0" for all',
        ) from None


def _copies(hub: Hub) -> list[Path]:
    """What migrations have left beside the ledger."""
    return list(hub.folder.glob("ledger-tables-*.db"))


def _check_own(engine: Engine, hub: Hub, wanted: Sequence[Wanted]) -> None:
    for one in wanted:
        there = found(engine, one.name)
        if there is not None and there.labels.get(HUB_LABEL) != str(hub.folder):
            raise Problem(
                one.name,
                f"is the container of {there.labels.get(HUB_LABEL, 'something else')}",
                expected=f"one of {hub.folder}",
                remedy="give the hub's folder another name; containers are called after it",
            )


def _nobody_serves(hub: Hub) -> None:
    if holder(hub.lock) is not None:
        raise Problem(str(hub.folder), "is served already", remedy=f"polyward-hub stop {hub.folder}")
