"""Whether a container is what was wanted, and as sealed, from what the engine says of it.

An engine's defaults, an image's own settings or an older engine may add to what was asked for. Nothing is taken for
granted that the engine does not confirm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polyward_shared.containers.wanted import Wanted

SEALED = {"ReadonlyRootfs": True, "Privileged": False}
# of the host's own namespaces and devices, nothing
EMPTY = (
    "Binds", "CapAdd", "Devices", "DeviceCgroupRules", "VolumesFrom", "Links", "ExtraHosts", "PidMode", "UTSMode",
    "UsernsMode", "Sysctls",
)  # fmt: skip
OWN_MEMORY = {"", "none", "private", "shareable"}  # of IpcMode, and not another's


def differences(found: Mapping[str, Any], wanted: Wanted) -> list[str]:
    """What is otherwise in `docker inspect`'s answer than was wanted, one sentence each."""
    host, config = found["HostConfig"], found["Config"]
    said = [f"{key} is {host.get(key)!r}" for key, value in SEALED.items() if host.get(key) is not value]
    said += [f"{key} is {host[key]!r}" for key in EMPTY if host.get(key)]
    said += [] if (host.get("IpcMode") or "") in OWN_MEMORY else [f"IpcMode is {host.get('IpcMode')!r}"]
    said += _sealed(host)
    said += _told("its user", config.get("User"), wanted.user)
    said += _told("its groups", tuple(host.get("GroupAdd") or ()), tuple(map(str, wanted.groups)))
    said += _told("its command", tuple(config.get("Cmd") or ()), wanted.command)
    mounts = {
        (mount["Type"], mount.get("Source", ""), mount["Destination"], mount["RW"]) for mount in found.get("Mounts", [])
    }
    asked = {("bind", str(mount.source), str(mount.target), mount.writable) for mount in wanted.mounts}
    said += [f"{target} is not mounted as asked" for _, _, target, _ in sorted(asked - mounts)]
    said += [
        f"{target} is a mount that nobody asked for, {'writable' if writable else 'read-only'}"
        for _, _, target, writable in sorted(mounts - asked)
    ]
    said += _told("what is empty", host.get("Tmpfs") or {}, wanted.tmpfs)
    said += _networked(found, wanted)
    said += _limited(host, wanted)
    return said


def _sealed(host: Mapping[str, Any]) -> list[str]:
    said = []
    if [name.upper() for name in host.get("CapDrop") or []] != ["ALL"]:
        said.append(f"CapDrop is {host.get('CapDrop')!r}")
    options = host.get("SecurityOpt") or []
    if not any(option.split(":")[0] == "no-new-privileges" and not option.endswith("false") for option in options):
        said.append(f"SecurityOpt is {options!r}, without no-new-privileges")
    if any("unconfined" in option or option.startswith("seccomp") for option in options):
        said.append(f"SecurityOpt is {options!r}, without the engine's own seccomp profile")
    return said


def _networked(found: Mapping[str, Any], wanted: Wanted) -> list[str]:
    said = []
    mode = found["HostConfig"].get("NetworkMode")
    networks = set(found.get("NetworkSettings", {}).get("Networks") or {})
    if mode != (wanted.networks[0] if wanted.networks else "none"):
        said.append(f"NetworkMode is {mode!r}")
    if networks != set(wanted.networks or ("none",)):
        said.append(f"its networks are {', '.join(sorted(networks)) or 'none'}")
    said += _told("its name servers", tuple(found["HostConfig"].get("Dns") or ()), wanted.dns)
    published = {
        (int(inside.split("/")[0]), place["HostIp"], int(place["HostPort"]))
        for inside, places in (found["HostConfig"].get("PortBindings") or {}).items()
        for place in places or []
    }
    asked = {(inside, *place) for inside, place in wanted.ports.items()}
    if published != asked or found["HostConfig"].get("PublishAllPorts"):
        said.append(f"its published ports are {sorted(published)}")
    return said


def _limited(host: Mapping[str, Any], wanted: Wanted) -> list[str]:
    gpus = [
        (request.get("Count") or 0, tuple(request.get("DeviceIDs") or ()), request.get("Capabilities"))
        for request in host.get("DeviceRequests") or []
    ]
    asked = wanted.gpu_request
    said = _told("its GPUs", gpus, [(asked["Count"], tuple(asked["DeviceIDs"]), [["gpu"]])] if asked else [])
    said += _told("its memory", host.get("Memory") or 0, wanted.memory_bytes)
    said += _told("its processors", host.get("NanoCpus") or 0, round((wanted.cpus or 0) * 1e9))
    return said + _told("its number of processes", host.get("PidsLimit"), wanted.processes)


def _told(what: str, found: object, wanted: object) -> list[str]:
    return [] if found == wanted else [f"{what}: found {found!r}, expected {wanted!r}"]
