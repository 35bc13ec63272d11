"""What an engine says of a container is compared with what was wanted: every loosening is found."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from polyward_shared.containers import Mount, Wanted, connect, differences, image_named, instant, owner_of
from polyward_shared.problems import Problem

SEALED = Wanted(
    name="polyward-a-trainer",
    image="polyward-trainer:1",
    command=("part", "/site/site.toml", "trainer"),
    user="10001:10001",
    mounts=(Mount(Path("/data"), Path("/data")), Mount(Path("/mnt/keep"), Path("/site/keep"), writable=True)),
    memory_gigabytes=4,
    cpus=1.5,
    gpus="1",
    hidden=(Path("/site/keep/gate"),),
)
JOINED = Wanted(
    name="polyward-a-way",
    image="polyward-gate:1",
    command=("way",),
    user="10001:10001",
    mounts=(),
    networks=("polyward-a", "polyward-a-out"),
    ports={8443: ("127.0.0.1", 443)},
    dns=("127.0.0.1",),
)


def said(wanted: Wanted) -> dict[str, Any]:
    """As `docker inspect` says of a container that is as wanted."""
    return {
        "Config": {"User": wanted.user, "Cmd": list(wanted.command)},
        "HostConfig": {
            "ReadonlyRootfs": True,
            "Privileged": False,
            "CapAdd": None,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "IpcMode": "private",
            "PidMode": "",
            "Binds": None,
            "Devices": [],
            "Tmpfs": wanted.tmpfs,
            "NetworkMode": wanted.networks[0] if wanted.networks else "none",
            "Dns": list(wanted.dns),
            "PortBindings": {
                f"{inside}/tcp": [{"HostIp": address, "HostPort": str(port)}]
                for inside, (address, port) in wanted.ports.items()
            },
            "DeviceRequests": [wanted.gpu_request] if wanted.gpu_request else None,
            "Memory": wanted.memory_bytes,
            "NanoCpus": round((wanted.cpus or 0) * 1e9),
            "PidsLimit": wanted.processes,
        },
        "Mounts": [
            {"Type": "bind", "Source": str(one.source), "Destination": str(one.target), "RW": one.writable}
            for one in wanted.mounts
        ],
        "NetworkSettings": {"Networks": {name: {} for name in wanted.networks or ("none",)}},
    }


@pytest.mark.parametrize("wanted", [SEALED, JOINED])
def test_what_is_as_wanted_is_no_different(wanted: Wanted) -> None:
    assert differences(said(wanted), wanted) == []


SOCKET = {"Type": "bind", "Source": "/run/docker.sock", "Destination": "/run/docker.sock", "RW": True}
IMAGES_OWN = {"Type": "volume", "Name": "f00", "Destination": "/var/lib/x", "RW": True}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("ReadonlyRootfs", False, "ReadonlyRootfs"),
        ("Privileged", True, "Privileged"),
        ("CapDrop", None, "CapDrop"),
        ("CapDrop", ["NET_RAW"], "CapDrop"),
        ("CapAdd", ["SYS_ADMIN"], "CapAdd"),
        ("SecurityOpt", [], "no-new-privileges"),
        ("SecurityOpt", ["no-new-privileges:false"], "no-new-privileges"),
        ("SecurityOpt", ["no-new-privileges", "seccomp=unconfined"], "seccomp"),
        ("SecurityOpt", ["no-new-privileges", "apparmor=unconfined"], "SecurityOpt"),
        ("PidMode", "host", "PidMode"),
        ("IpcMode", "host", "IpcMode"),
        ("Devices", [{"PathOnHost": "/dev/sda"}], "Devices"),
        ("Binds", ["/:/host"], "Binds"),
        ("Tmpfs", {}, "what is empty"),
        ("NetworkMode", "bridge", "NetworkMode"),
        ("PublishAllPorts", True, "published"),
        ("PortBindings", {"22/tcp": [{"HostIp": "", "HostPort": "22"}]}, "published"),
        ("DeviceRequests", None, "GPUs"),
        ("DeviceRequests", [{"Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]]}], "GPUs"),
        ("Memory", 0, "memory"),
        ("NanoCpus", 0, "processors"),
        ("PidsLimit", None, "number of processes"),
        ("Dns", ["8.8.8.8"], "name servers"),
        ("GroupAdd", ["0"], "groups"),
    ],
)
def test_every_loosening_is_told(key: str, value: object, told: str) -> None:
    found = said(SEALED)
    found["HostConfig"][key] = value
    (sentence,) = differences(found, SEALED)
    assert told in sentence


def test_mounts_users_and_networks_are_compared() -> None:
    def with_change(change: Any) -> list[str]:
        found = copy.deepcopy(said(SEALED))
        change(found)
        return differences(found, SEALED)

    assert "/run/docker.sock is a mount that nobody asked for, writable" in with_change(
        lambda found: found["Mounts"].append(SOCKET)
    )
    assert "/var/lib/x is a mount" in with_change(lambda found: found["Mounts"].append(IMAGES_OWN))[0]
    written = with_change(lambda found: found["Mounts"][0].update(RW=True))
    assert written == ["/data is not mounted as asked", "/data is a mount that nobody asked for, writable"]
    assert "its user" in with_change(lambda found: found["Config"].update(User=""))[0]
    assert "its command" in with_change(lambda found: found["Config"].update(Cmd=["sh"]))[0]
    joined = with_change(lambda found: found["NetworkSettings"]["Networks"].update(bridge={}))
    assert joined == ["its networks are bridge, none"]


def test_the_digest_is_of_all_settings() -> None:
    assert SEALED.digest != JOINED.digest
    again = Wanted(**{name: getattr(SEALED, name) for name in SEALED.__slots__})
    assert again.digest == SEALED.digest


def test_the_engines_times_are_read() -> None:
    at = datetime(2026, 3, 1, 12, 0, 0, 120000, UTC)
    for text in ("2026-03-01T12:00:00.12Z", "2026-03-01T12:00:00.120000000Z", "2026-03-01T13:00:00.120000999+01:00"):
        assert instant(text) == at
    assert instant("2026-03-01T12:00:00Z") == at.replace(microsecond=0)


def test_an_engine_that_is_not_here_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(Problem, match=r"cannot be reached[\s\S]*systemctl start docker"):
        connect()
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(Problem, match="may be another machine"):
        connect()


def test_root_is_nobodys_user(tmp_path: Path) -> None:
    owner = tmp_path.stat()
    if owner.st_uid != 0:
        assert owner_of(tmp_path) == f"{owner.st_uid}:{owner.st_gid}"
    with pytest.raises(Problem, match="belongs to root"):
        owner_of(Path("/"))
    with pytest.raises(Problem, match="cannot be looked at"):
        owner_of(tmp_path / "none")


def test_images_are_of_this_version_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLYWARD_REGISTRY", raising=False)
    assert image_named("gate", "7.1") == "polyward-gate:7.1"
    monkeypatch.setenv("POLYWARD_REGISTRY", "registry.example.org/")
    assert image_named("hub", "7.1") == "registry.example.org/polyward-hub:7.1"
