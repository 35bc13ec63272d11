"""New containers in the place of old ones, and the old ones back if the new ones do not do well.

The old ones are kept, stopped and under another name, until the new ones are healthy. What an end in between left
behind is seen by those names, and settled before anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from polyward_shared.containers.engine import Engine, asking, require_image
from polyward_shared.containers.inspection import differences
from polyward_shared.containers.making import Container, found, is_healthy, make, remove, start, wait_until_healthy
from polyward_shared.containers.wanted import DIGEST, STOP_SECONDS, Wanted
from polyward_shared.problems import Problem

BEFORE = "-before"  # behind the name of a container that is kept


def stands(engine: Engine, wanted: Wanted) -> Literal["absent", "as wanted", "another image", "other settings"]:
    """How what is there under the name compares with what is wanted."""
    there = found(engine, wanted.name)
    if there is None:
        return "absent"
    if there.attrs["Image"] != require_image(engine, wanted.image):
        return "another image"
    same = there.labels.get(DIGEST) == wanted.digest and not differences(there.attrs, wanted)
    return "as wanted" if same else "other settings"


def renew(engine: Engine, wanted: Sequence[Wanted], healthy_seconds: float) -> list[Container]:
    """Replaces the containers of these names, all of them, and returns the new ones: versions never work mixed.

    Raises `Problem` when the new ones cannot be made or do not become healthy in time. Then, or when this is
    interrupted, the old ones run again.
    """
    names = [one.name for one in wanted]
    settle(engine, names)
    for one in wanted:
        require_image(engine, one.image)
    old = [container for name in names if (container := found(engine, name))]
    new: list[Container] = []
    try:
        with asking("the containers"):
            for container in old:
                container.rename(f"{container.name}{BEFORE}")
            for container in reversed(old):
                container.stop(timeout=STOP_SECONDS)
        for one in wanted:
            new.append(make(engine, one))
            start(new[-1])
        wait_until_healthy(new, healthy_seconds)
    except BaseException as error:
        for container in reversed(new):
            remove(container)
        _put_back(engine, names)
        if not isinstance(error, Problem) or not old:
            raise
        again = f"{error.found}\n  the containers from before run again"
        raise Problem(error.where, again, expected=error.expected, remedy=error.remedy) from None
    with asking("the containers"):
        for container in old:
            container.remove(force=True, v=True)
    return new


def settle(engine: Engine, names: Sequence[str]) -> None:
    """Ends a renewal that was cut off: forwards if all of the new containers are healthy, and back otherwise."""
    kept = [one for name in names if (one := found(engine, f"{name}{BEFORE}"))]
    if not kept:
        return
    new = [found(engine, one.name.removesuffix(BEFORE)) for one in kept]
    if all(one is not None and is_healthy(one) for one in new):
        with asking("the containers"):
            for one in kept:
                one.remove(force=True, v=True)
    else:
        _put_back(engine, names)


def _put_back(engine: Engine, names: Sequence[str]) -> None:
    """Gives the containers that were kept their names again, in the place of others, and starts all of these names."""
    for name in names:
        if kept := found(engine, f"{name}{BEFORE}"):
            if other := found(engine, name):
                remove(other)
            with asking(f"the container {name}"):
                kept.rename(name)
    for name in names:
        if one := found(engine, name):
            start(one)
