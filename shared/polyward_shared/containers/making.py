"""Making a container that is what was wanted or is not there, starting it, and taking it away."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from polyward_shared.containers.engine import Engine, asking, require_image
from polyward_shared.containers.inspection import differences
from polyward_shared.containers.lines import instant, tail
from polyward_shared.containers.wanted import DIGEST, STOP_SECONDS, Wanted
from polyward_shared.problems import Problem

Container = Any  # docker.models.containers.Container
HEALTH_SECONDS = 5  # between looks
UNHEALTHY_LOOKS = 6
BEGINNING_SECONDS = 180  # while a container that starts is not yet called unhealthy
LOOK_SECONDS = 0.3
STEADY = timedelta(seconds=2)
MOST_RESTARTS = 3  # of a container that shall become healthy


def make(engine: Engine, wanted: Wanted) -> Container:
    """A new container that is not started yet. Raises `Problem`, and leaves none, if the engine makes another."""
    image = require_image(engine, wanted.image)
    with asking(f"the container {wanted.name}"):
        made = engine.containers.get(_created(engine, wanted, image))
        try:
            for network in wanted.networks[1:]:
                engine.networks.get(network).connect(made)
            made.reload()
            if other := differences(made.attrs, wanted):
                raise Problem(
                    f"the container {wanted.name}",
                    f"the engine made it otherwise than wanted: {'; '.join(other)}",
                    remedy="look for defaults in the engine's settings (/etc/docker/daemon.json) and in the image",
                )
        except BaseException:
            made.remove(force=True, v=True)
            raise
    return made


def make_all(engine: Engine, several: Sequence[Wanted]) -> list[Container]:
    """As `make`, for all of them or none."""
    made: list[Container] = []
    try:
        for wanted in several:
            made.append(make(engine, wanted))  # noqa: PERF401  # one by one: what is made counts if the next fails
    except BaseException:
        discard(made)
        raise
    return made


def discard(containers: Sequence[Container]) -> None:
    """Removes them at once, running or not."""
    for container in containers:
        container.remove(force=True, v=True)


def _created(engine: Engine, wanted: Wanted, image: str) -> str:
    api = engine.api
    nanoseconds = 10**9
    first = wanted.networks[0] if wanted.networks else "none"
    host = api.create_host_config(
        network_mode=first,
        port_bindings={f"{inside}/tcp": place for inside, place in wanted.ports.items()},
        read_only=True,
        tmpfs=wanted.tmpfs,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        pids_limit=wanted.processes,
        mem_limit=wanted.memory_bytes or None,
        memswap_limit=wanted.memory_bytes or None,
        nano_cpus=round(wanted.cpus * 1e9) if wanted.cpus else None,
        device_requests=[wanted.gpu_request] if wanted.gpu_request else None,
        dns=list(wanted.dns) or None,
        group_add=[str(group) for group in wanted.groups] or None,
        restart_policy={"Name": "unless-stopped"} if wanted.restart else None,
        log_config={"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        mounts=[
            {"Type": "bind", "Source": str(mount.source), "Target": str(mount.target), "ReadOnly": not mount.writable}
            for mount in wanted.mounts
        ],
    )
    health = {
        "test": ["CMD", *wanted.health],
        "interval": HEALTH_SECONDS * nanoseconds,
        "timeout": 10 * nanoseconds,
        "start_period": BEGINNING_SECONDS * nanoseconds,
        "retries": UNHEALTHY_LOOKS,
    }
    joined = None
    if wanted.networks:
        joined = api.create_networking_config({first: api.create_endpoint_config(aliases=list(wanted.aliases))})
    made: dict[str, str] = api.create_container(
        image,  # by its id: a tag may be moved at any time
        list(wanted.command),
        name=wanted.name,
        user=wanted.user,
        working_dir=str(wanted.folder) if wanted.folder else None,
        ports=[(inside, "tcp") for inside in wanted.ports],
        environment=dict(wanted.environment),
        labels={**wanted.labels, DIGEST: wanted.digest},
        healthcheck=health if wanted.health else None,
        host_config=host,
        networking_config=joined,
        stop_timeout=STOP_SECONDS,
        use_config_proxy=False,  # the environment is what was wanted
    )
    return made["Id"]


def found(engine: Engine, name: str) -> Container | None:
    """The container of this name, running or not."""
    from docker.errors import NotFound

    with asking(f"the container {name}"):
        try:
            return engine.containers.get(name)
        except NotFound:
            return None


def start(container: Container) -> None:
    """Raises `Problem`."""
    with asking(f"the container {container.name}"):
        container.start()


def wait_until_healthy(containers: Sequence[Container], seconds: float) -> None:
    """Waits for all of them. Raises `Problem`, with the last lines, if one ends, falls ill or takes too long."""
    deadline = time.monotonic() + seconds
    waiting = list(containers)
    while waiting:
        for container in list(waiting):
            with asking(f"the container {container.name}"):
                container.reload()
            if is_healthy(container):
                waiting.remove(container)
            elif container.status in {"exited", "dead"} or container.attrs["RestartCount"] >= MOST_RESTARTS:
                raise _ill(container, "does not stay up")
            elif _health(container) == "unhealthy":
                raise _ill(container, "is not well")
        if waiting and time.monotonic() > deadline:
            raise _ill(waiting[0], f"was not healthy within {seconds:.0f} s")
        time.sleep(LOOK_SECONDS if waiting else 0)


def is_healthy(container: Container) -> bool:
    """Whether it ran, and well, when the engine was last asked. One without a health check does that after a while."""
    if container.status != "running":
        return False
    steady = datetime.now(UTC) - instant(container.attrs["State"]["StartedAt"]) > STEADY
    return _health(container) == "healthy" or (not _health(container) and steady)


def _health(container: Container) -> str:
    state: str = (container.attrs["State"].get("Health") or {"Status": ""})["Status"]
    return state


def _ill(container: Container, what: str) -> Problem:
    last = "\n    ".join(tail(container)) or "it has said nothing"
    return Problem(
        f"the container {container.name}", f"{what}; its last lines:\n    {last}", remedy="mend what they say"
    )


def take_down(engine: Engine, labels: Mapping[str, str]) -> list[str]:
    """Stops and removes the containers and networks with these labels, and returns the containers' names.

    Those that others depend on go last: they stop in the reverse order of their making. A network with a stranger on
    it stays.
    """
    filters = {"label": [f"{key}={value}" for key, value in labels.items()]}
    with asking("the containers"):
        containers = sorted(engine.containers.list(all=True, filters=filters), key=lambda one: one.attrs["Created"])
        for container in reversed(containers):
            remove(container)
        for network in engine.networks.list(filters=filters):
            network.reload()
            if not network.attrs["Containers"]:
                network.remove()
    return [container.name for container in containers]


def remove(container: Container) -> None:
    """Stops it, after its batch, and removes it. One that is gone already is no trouble."""
    from docker.errors import NotFound

    with suppress(NotFound):
        container.stop(timeout=STOP_SECONDS)
        container.remove(force=True, v=True)
