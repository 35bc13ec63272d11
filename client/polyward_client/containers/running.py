"""Starting the node's containers, with everything looked at before and after; renewing them; single commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyward_client.containers.wanted import (
    FOLDER_LABEL,
    SITE_LABEL,
    Surroundings,
    check_site,
    gpus_of,
    labels_of,
    name_of,
    networks_of,
    once_of,
    wanted_of,
)
from polyward_client.site import Site
from polyward_shared.containers import (
    DIGEST,
    Engine,
    Wanted,
    differences,
    found,
    image_named,
    instant,
    make,
    make_all,
    network_of,
    owner_of,
    renew,
    settle,
    stands,
    start,
    take_down,
    wait_until_healthy,
)
from polyward_shared.problems import Problem
from polyward_shared.supervise import holder


@dataclass(frozen=True, slots=True)
class Standing:
    """How a container does after a start: `state` is started, runs, another image or other settings."""

    name: str
    image: str
    state: str
    seconds: float | None  # from its start until it was healthy


def planned(site: Site, engine: Engine, version: str, environment: Mapping[str, str]) -> tuple[Wanted, ...]:
    """The node's containers, once everything on this machine is as they need it. Raises `Problem`."""
    check_site(site)
    surroundings = around(site, engine, version, environment)
    prepare(site, engine, surroundings.user)
    return wanted_of(site, surroundings)


def around(site: Site, engine: Engine, version: str, environment: Mapping[str, str]) -> Surroundings:
    """What the site's containers depend on, from the engine and the folders. Raises `Problem`."""
    gpus = gpus_of(site, nvidia="nvidia" in (engine.info().get("Runtimes") or {}))
    tag = image_named("trainer", version)
    images = {"gate": image_named("gate", version), "trainer": f"{tag}-cuda" if gpus else tag}
    return Surroundings(images=images, user=owner_of(site.state), gpus=gpus, environment=environment)


def bring_up(site: Site, engine: Engine, wanted: Sequence[Wanted], seconds: float) -> list[Standing]:
    """Makes and starts what is not there, and waits until all is healthy. What is of another version stays, and is
    said. Raises `Problem`, and starts nothing, if anything is not as sealed as it must be."""
    _refuse_others(site, engine)
    settle(engine, [one.name for one in wanted])
    _refuse_loosened(site, engine, wanted)
    networks = _networks(site, engine)
    states: list[str] = [stands(engine, one) for one in wanted]
    make_all(engine, [one for one, state in zip(wanted, states, strict=True) if state == "absent"])
    containers = [found(engine, one.name) for one in wanted]
    states = [_started(container, state) for container, state in zip(containers, states, strict=True)]
    _check_members(site, networks[0])
    wait_until_healthy(containers, seconds)
    return [_standing(*each) for each in zip(containers, wanted, states, strict=True)]


def _started(container: Any, state: str) -> str:
    """Starts it unless it runs, and returns its state as people are told it."""
    if container.status == "running":
        return "runs" if state == "as wanted" else state
    start(container)
    return "started" if state in {"absent", "as wanted"} else state


def renewed(site: Site, engine: Engine, wanted: Sequence[Wanted], seconds: float) -> list[Standing]:
    """New containers in the place of the old ones, which run again if the new ones do not do well. Raises `Problem`."""
    _refuse_others(site, engine)
    networks = _networks(site, engine)
    new = renew(engine, wanted, seconds)
    _check_members(site, networks[0])
    return [_standing(container, one, "started") for one, container in zip(wanted, new, strict=True)]


def prepare(site: Site, engine: Engine, owner: str) -> None:
    """The site's folders and its lock, as its owner's. Raises `Problem` where a node of this site runs already that is
    no container, or where a file is not the owner's."""
    user, group = map(int, owner.split(":"))
    for folder in (site.approved, site.logs, site.gate, site.trainer, site.port):
        _own(folder, user, group)
    held = holder(site.lock)
    gate = found(engine, name_of(site, "gate"))
    if held and not (gate is not None and gate.status in {"running", "paused", "restarting"}):
        raise Problem(site.name, f"is already running ({held})", remedy=f"polyward-node stop {site.path}")
    _own(site.lock, user, group, file=True)
    for path in (site.key, site.certificate):
        if path.exists() and path.stat().st_uid != user:
            raise Problem(
                str(path),
                f"belongs to user {path.stat().st_uid}, and its folder to {user}, whom the containers run as",
                remedy=f"chown -R {user}:{group} {site.state}",
            )


def _own(path: Path, user: int, group: int, *, file: bool = False) -> None:
    """Makes what is not there, for its owner alone. Where root does it, no link that the owner put there is followed.

    Raises `Problem`.
    """
    if path.exists():
        return
    try:
        if file:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        else:
            path.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(path, user, group, follow_symlinks=False)
    except OSError as error:
        raise Problem(str(path), f"cannot be made ({error.strerror})", remedy="be root, or the owner") from None


def _refuse_others(site: Site, engine: Engine) -> None:
    """Raises `Problem` if containers of these names belong to another folder."""
    for part in ("gate", "trainer", "way"):
        there = found(engine, name_of(site, part))
        if there is not None and (other := there.labels.get(FOLDER_LABEL)) != str(site.state):
            raise Problem(
                there.name,
                f"is there already, for {other or 'something else'}",
                expected=f"none, or one for {site.state}",
                remedy="take that one down first, or give this site another name",
            )


def _refuse_loosened(site: Site, engine: Engine, wanted: Sequence[Wanted]) -> None:
    """Raises `Problem` where a container is otherwise than wanted; the node is taken down if it was not made so."""
    for one in wanted:
        there = found(engine, one.name)
        if there is None or not (other := differences(there.attrs, one)):
            continue
        changed = there.labels.get(DIGEST) == one.digest  # since it was made
        if changed:
            down(site, engine)
        raise Problem(
            one.name,
            f"is otherwise than wanted: {'; '.join(other)}" + ("; the node is taken down" if changed else ""),
            remedy=f"find out who changed it; polyward-node up {site.path}"
            if changed
            else f"polyward-node update {site.path}",
        )


def _networks(site: Site, engine: Engine) -> tuple[Engine, Engine]:
    inner, out = networks_of(site)
    labels = labels_of(site)
    return (
        network_of(engine, inner, internal=True, labels=labels),
        network_of(engine, out, internal=False, labels=labels),
    )


def _check_members(site: Site, network: Engine) -> None:
    """Takes the node down, and raises `Problem`, if anybody else is on the gate's network."""
    network.reload()
    members = {member["Name"] for member in (network.attrs.get("Containers") or {}).values()}
    if strangers := members - {name_of(site, "gate"), name_of(site, "way")}:
        down(site, network.client)
        raise Problem(
            f"the network {network.name}",
            f"holds {', '.join(sorted(strangers))} as well",
            expected="the node's gate and way alone",
            remedy=f"docker network disconnect {network.name} {sorted(strangers)[0]}",
        )


def down(site: Site, engine: Engine) -> list[str]:
    """Stops and removes the site's containers and networks; all that it keeps stays. Returns their names."""
    return take_down(engine, {SITE_LABEL: site.name, FOLDER_LABEL: str(site.state)})


def _standing(container: Any, wanted: Wanted, state: str) -> Standing:
    attrs = container.attrs
    looks = ((attrs["State"].get("Health") or {}).get("Log")) or []
    well = [instant(look["End"]) for look in looks if look["ExitCode"] == 0]
    seconds = (well[0] - instant(attrs["State"]["StartedAt"])).total_seconds() if well else None
    return Standing(wanted.name, wanted.image, state, seconds if state == "started" else None)


def run_once(
    site: Site, engine: Engine, surroundings: Surroundings, command: tuple[str, ...], written: tuple[Path, ...]
) -> int:
    """Runs one command in a container of its own, passes on what it says, and returns its exit code."""
    container = make(engine, once_of(site, surroundings, command, written))
    try:
        said = container.attach(stdout=True, stderr=True, stream=True, logs=True, demux=True)
        start(container)
        for results, talk in said:
            for stream, piece in ((sys.stdout, results), (sys.stderr, talk)):
                if piece:
                    stream.buffer.write(piece)
                    stream.flush()
        code: int = container.wait()["StatusCode"]
        return code
    finally:
        container.remove(force=True, v=True)
