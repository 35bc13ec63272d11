"""Whether the machine is already as a plan asks for, as in a container or under systemd."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from polyward_client.isolation.arrangement import out_of_hand
from polyward_client.isolation.mounts import is_below, is_within, read_mounts
from polyward_client.isolation.plan import SYSTEM_SOCKETS, Plan

# what a kernel with tunnel modules puts into every network namespace, always down
LIFELESS = {"lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"}


def is_already_so(plan: Plan) -> bool:
    """Whether a container or systemd has done what the plan asks for, as far as this process can find out."""
    return (
        (plan.network or not _networks())
        and all(is_out_of_reach(path, plan.keep) for path in plan.hide if path != SYSTEM_SOCKETS)
        and all(os.path.isdir(path) and is_read_only(path, plan.writable) for path in plan.read_only)
        and not any(os.access(path, os.W_OK) for path in out_of_hand(plan))
    )


def is_read_only(folder: str, but: Sequence[str]) -> bool:
    """With all that is mounted below it: engines up to Docker 24 leave that writable in a mount that is not."""
    points = (folder, *(mount.point for mount in read_mounts() if is_below(mount.point, folder)))
    own = [point for point in points if not any(is_within(point, place) for place in but)]
    return all(os.statvfs(point).f_flag & os.ST_RDONLY for point in own if os.access(point, os.F_OK))


def _networks() -> list[str]:
    try:
        return [name for _, name in socket.if_nameindex() if name not in LIFELESS]
    except OSError:  # systemd's RestrictAddressFamilies: not even asking is allowed
        return []


def is_out_of_reach(path: str, keep: Sequence[str]) -> bool:
    """With nothing below it but what is kept, and the folders on the way there."""
    try:
        below = [os.path.join(path, name) for name in os.listdir(path)]
        others = [place for place in below if not any(is_within(place, kept) for kept in keep)]
        return all(any(is_below(kept, place) for kept in keep) and is_out_of_reach(place, keep) for place in others)
    except NotADirectoryError:
        return not os.access(path, os.R_OK) or not os.path.isfile(path)  # a device in its place
    except OSError:
        return True
