"""What a person is told when something was done, and which other answers an action may give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import HTTPException, Path

from polyward_server.dashboard.refusals import Refusal
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen

REFUSALS: dict[int | str, dict[str, Any]] = {
    409: {"model": Refusal, "description": "It cannot be done as things stand"},
    422: {"model": Refusal, "description": "What was sent is not what is asked for"},
}
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="of the study")]


class Said(Frozen):
    """What was done."""

    said: str


class Go(Frozen):
    """What was done is to be seen at this address."""

    go: str


@contextmanager
def as_conflict() -> Iterator[None]:
    """What raises a `Problem` within cannot be done as things stand, and the answer says why."""
    try:
        yield
    except Problem as problem:
        raise HTTPException(409, str(problem)) from None
