"""systemd units for a node: one that isolates its two processes itself, or one for each of them as users of their own.

The units in `deploy/systemd` are these for sites below /etc/polyward; `polyward-node service` fills them in for a site.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from polyward_client.site import Site
from polyward_shared.problems import Problem

STOP_SECONDS = 20  # the trainer ends its batch, the node waits for both

CREDENTIAL_HINT = """\
# the vault's passphrase from a file that only root may read: [vault] passphrase = "${CREDENTIALS_DIRECTORY}/vault", and
# LoadCredential=vault:/etc/polyward/vault
"""

HARDENED = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectKernelLogs=yes
ProtectClock=yes
ProtectHostname=yes
PrivateTmp=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
"""

NODE = """\
[Unit]
Description=polyward node of {name}
Wants=network-online.target
After=network-online.target
RequiresMountsFor={data} {state}

[Service]
Type=exec
User={user}
ExecStart={python} -m polyward_client run {site}
Restart=always
RestartSec=5
TimeoutStopSec={stop}
KillMode=mixed
UMask=0077
{limits}{credential}ReadWritePaths={state}
# gate and trainer take namespaces of their own: users, mounts, network
RestrictNamespaces=user mnt net
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallFilter=@system-service @mount
{hardened}
[Install]
WantedBy=multi-user.target
"""

GATE = """\
[Unit]
Description=polyward gate of {name}: the network, no images
Wants=network-online.target {trainer_unit}
After=network-online.target
RequiresMountsFor={state}

[Service]
Type=exec
User={gate_user}
ExecStartPre=+{python} -m polyward_client folders {site}
ExecStart={python} -m polyward_client part {site} gate
Restart=always
RestartSec=5
TimeoutStopSec={stop}
UMask=0007
MemoryMax=2G
ReadWritePaths={state}/gate {state}/port {state}/logs {state}/run.lock
InaccessiblePaths=-{data} -{state}/trainer
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
PrivateDevices=yes
SystemCallFilter=@system-service
{hardened}
[Install]
WantedBy=multi-user.target
"""

TRAINER = """\
[Unit]
Description=polyward trainer of {name}: the images, no network
RequiresMountsFor={data} {state}

[Service]
Type=exec
User={trainer_user}
SupplementaryGroups={gate_group}
ExecStartPre=+{python} -m polyward_client folders {site}
ExecStart={python} -m polyward_client part {site} trainer
Restart=always
RestartSec=5
TimeoutStopSec={stop}
UMask=0007
{limits}{credential}PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any
ReadWritePaths={state}/trainer {state}/port {state}/logs
ReadOnlyPaths={data}
InaccessiblePaths=-{state}/gate
RestrictNamespaces=yes
SystemCallFilter=@system-service
{hardened}
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Place:
    """What a unit is filled with; paths as systemd shall see them."""

    name: str
    python: str
    site: str
    state: str
    data: str
    user: str
    gate_user: str = ""
    gate_group: str = ""
    trainer_user: str = ""
    memory_gigabytes: float | None = None
    nice: int = 0
    credential: str = CREDENTIAL_HINT


INSTANCE = Place(
    name="%i",
    python="/opt/polyward/bin/python",
    site="/etc/polyward/%i/site.toml",
    state="/var/lib/polyward/%i",
    data="/srv/polyward/%i",
    user="polyward",
    gate_user="polyward-gate",
    gate_group="polyward-gate",
    trainer_user="polyward-trainer",
)


def place_of(site: Site, user: str) -> Place:
    """A site's own, run by `user` where one unit runs both processes."""
    names = site.file.isolation
    folder, _, credential = site.file.vault.passphrase.rpartition("/")
    loaded = f"LoadCredential={credential}:{_word(site.path.parent / credential)}\n"
    return Place(
        name=site.name,
        python=_word(sys.executable),
        site=_word(site.path),
        state=_word(site.state),
        data=_word(site.root.resolve()),
        user=user,
        gate_user=names.gate_user,
        gate_group=names.gate_user,
        trainer_user=names.trainer_user,
        memory_gigabytes=site.file.limits.memory_gigabytes,
        nice=site.file.limits.nice,
        credential=loaded if folder == "${CREDENTIALS_DIRECTORY}" else CREDENTIAL_HINT,
    )


def units(place: Place, *, two_users: bool) -> Mapping[str, str]:
    """The units' texts by the names of their files."""
    instance = "" if place.name == "%i" else place.name
    trainer_unit = f"polyward-trainer@{place.name}.service"
    limits = f"Nice={place.nice}\n" if place.nice else ""
    if place.memory_gigabytes is not None:
        limits += f"MemoryMax={math.ceil(place.memory_gigabytes * 1024)}M\n"
    templates = {"gate": GATE, "trainer": TRAINER} if two_users else {"node": NODE}
    fields = {name: getattr(place, name) for name in place.__slots__}
    return {
        f"polyward-{part}@{instance}.service": template.format(
            **fields,
            limits=limits,
            trainer_unit=trainer_unit,
            stop=STOP_SECONDS,
            hardened=HARDENED,
        )
        for part, template in templates.items()
    }


def check_two_users(site: Site) -> None:
    """Raises `Problem` where the site's file does not name both users."""
    if not (site.file.isolation.gate_user and site.file.isolation.trainer_user):
        raise Problem(
            str(site.path),
            "isolation: names no two users",
            remedy='add [isolation] with gate_user = "polyward-gate" and trainer_user = "polyward-trainer"',
        )


def _word(path: str | Path) -> str:
    """A path as a unit may hold it: systemd reads % itself, and splits at spaces. Raises `Problem`."""
    text = str(path)
    if any(character.isspace() or character in "\"'\\" for character in text):
        raise Problem(text, "systemd units cannot hold this path", expected="no spaces or quotes", remedy="rename it")
    return text.replace("%", "%%")
