"""The Docker engine of this machine: reaching it, its images and networks, and the user that containers run as."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from polyward_shared.problems import Problem

Engine = Any  # docker.DockerClient; the package is an extra
ANSWER_SECONDS = 120  # for one answer of the engine, which may be stopping a container meanwhile
ALONE = {"com.docker.network.bridge.inhibit_ipv4": "true"}  # a bridge without an address of this machine's


def connect() -> Engine:
    """The engine that `DOCKER_HOST`, or its usual socket, leads to. Raises `Problem`."""
    try:
        import docker
        from docker.errors import DockerException
    except ImportError:
        raise Problem(
            "containers", "the docker package is not installed", remedy="pip install 'polyward[containers]'"
        ) from None
    named = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not named.startswith("unix://"):
        raise Problem(
            "DOCKER_HOST",
            f"found {named}, which may be another machine",
            expected="a socket of this machine, whose folders are mounted",
            remedy="unset it, or let it begin with unix://",
        )
    try:
        with socket.socket(socket.AF_UNIX) as probe:  # a client that finds nobody leaves its own socket open
            probe.connect(named.removeprefix("unix://"))
        engine = docker.DockerClient(base_url=named, timeout=ANSWER_SECONDS)
        engine.ping()
    except (DockerException, OSError) as error:
        raise Problem(
            "the Docker engine",
            f"cannot be reached at {named} ({_reason(error)})",
            remedy="install and start it (systemctl start docker), and be in the group docker or root",
        ) from None
    return engine


@contextmanager
def asking(where: str) -> Iterator[None]:
    """What the engine refuses becomes a `Problem`."""
    from docker.errors import DockerException

    try:
        yield
    except DockerException as error:
        raise Problem(where, f"the Docker engine refuses: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error).splitlines()[0]


def image_named(part: str, version: str = "") -> str:
    """`polyward-PART:VERSION`, of this version unless said, behind what POLYWARD_REGISTRY says, such as `host/`."""
    return f"{os.environ.get('POLYWARD_REGISTRY', '')}polyward-{part}:{version or installed('polyward')}"


def require_image(engine: Engine, name: str) -> str:
    """The id of an image that is here; none is ever fetched. Raises `Problem`."""
    from docker.errors import ImageNotFound

    try:
        with_id: str = engine.images.get(name).id
    except ImageNotFound:
        raise Problem(
            name,
            "this image is not here",
            remedy="build it (make images), or load it (docker load -i FILE, docker pull from a registry of yours)",
        ) from None
    return with_id


def owner_of(folder: Path) -> str:
    """`uid:gid` of a folder's owner, as whom containers work in it. Raises `Problem` for root, or without a folder."""
    try:
        owner = folder.stat()
    except OSError as error:
        raise Problem(str(folder), f"cannot be looked at ({error.strerror})") from None
    if owner.st_uid == 0:
        raise Problem(
            str(folder),
            "belongs to root, and no container of ours works as root",
            remedy=f"useradd --system --shell /usr/sbin/nologin polyward && chown -R polyward: {folder}",
        )
    return f"{owner.st_uid}:{owner.st_gid}"


def network_of(engine: Engine, name: str, *, internal: bool, labels: Mapping[str, str]) -> Engine:
    """The network of this name, made if there is none. An internal one has no way out, nor to this machine.

    Raises `Problem` if there is one of another kind.
    """
    with asking(f"the network {name}"):
        present = engine.networks.list(names=[f"^{name}$"])
        network = present[0] if present else _new_network(engine, name, internal=internal, labels=labels)
        network.reload()
    found = network.attrs
    open_to_us = internal and (not ALONE.items() <= (found["Options"] or {}).items() or found.get("EnableIPv6"))
    if found["Internal"] is not internal or found["Driver"] != "bridge" or found["Scope"] != "local" or open_to_us:
        raise Problem(
            f"the network {name}",
            f"found one of driver {found['Driver']}, {'internal' if found['Internal'] else 'with a way out'}"
            + (", which reaches this machine" if open_to_us else ""),
            expected="an internal bridge" if internal else "a bridge with a way out",
            remedy=f"docker network rm {name}",
        )
    return network


def _new_network(engine: Engine, name: str, *, internal: bool, labels: Mapping[str, str]) -> Engine:
    return engine.networks.create(
        name,
        driver="bridge",
        internal=internal,
        labels=dict(labels),
        options=ALONE if internal else {},
        attachable=False,
        check_duplicate=True,
    )
