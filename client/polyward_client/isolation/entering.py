"""A process goes into its isolation, for good."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from polyward_client.isolation.already import is_already_so
from polyward_client.isolation.arrangement import arrange, guard
from polyward_client.isolation.kernel import (
    NEW_MOUNTS,
    NEW_NETWORK,
    NEW_USER,
    PRIVATE,
    RECURSIVE,
    call,
    give_up_privileges,
    mount_on,
)
from polyward_client.isolation.plan import Plan
from polyward_shared.problems import Problem

REMEDY = (
    "allow unprivileged user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, or "
    "kernel.apparmor_restrict_unprivileged_userns), or run it under systemd with two users (polyward-node service "
    "--two-users SITE), or write require = false under [isolation] in the site's file and do without"
)


def enter(plan: Plan) -> None:
    """Isolates this process, which has one thread, for good. Raises `Problem` where that is required and impossible."""
    if plan.require:
        _isolate(plan)
    give_up_privileges()
    if plan.memory_bytes is not None:
        # anonymous writable memory only: CUDA reserves address space by the terabyte, which RLIMIT_AS would count
        resource.setrlimit(resource.RLIMIT_DATA, (plan.memory_bytes, plan.memory_bytes))
    os.nice(plan.nice)
    for folder in plan.read_only:
        if not os.access(folder, os.R_OK | os.X_OK):
            raise Problem(
                folder,
                f"the {plan.part}, which has no privileges, may not read this folder",
                remedy="let a user start the node who may read it, or name one under [isolation] trainer_user",
            )


def _isolate(plan: Plan) -> None:
    """Each way is tried in a copy of this process first: half of an isolation cannot be taken back."""
    refused = "this is not Linux"
    if sys.platform == "linux":
        for own_users in (True, False) if os.geteuid() == 0 else (True,):
            reason = _tried(lambda own=own_users: _apply(plan, own_users=own))  # type: ignore[misc]
            if not reason:
                _apply(plan, own_users=own_users)
                return
            refused = reason
        if is_already_so(plan):
            return
    raise Problem(
        f"the {plan.part}",
        f"the system does not let it be isolated ({refused})",
        expected="no network for the trainer, no images for the gate",
        remedy=REMEDY,
    )


def _tried(step: Callable[[], None]) -> str:
    """What stands in the way of a step, tried in a copy of this process; empty when nothing does."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            step()
            os._exit(0)
        except OSError as error:
            os.write(writer, str(error).encode()[:1000])
        finally:  # whatever happened, this copy goes no further
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        reason = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return reason or ("" if status == 0 else f"the attempt ended with status {status}")


def _apply(plan: Plan, *, own_users: bool) -> None:
    """Raises `OSError` with the step that the kernel refused."""
    user, group, here = os.geteuid(), os.getegid(), os.getcwd()
    flags = NEW_MOUNTS | (0 if plan.network else NEW_NETWORK) | (NEW_USER if own_users else 0)
    call("unshare", ctypes.c_int(flags))
    if own_users:
        Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="utf-8")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="utf-8")
    mount_on("none", "/", "", RECURSIVE | PRIVATE)
    arrange(plan)
    guard(plan)
    os.chdir(here)  # the same path in the new arrangement: from the old folder, what lies above is still in view
