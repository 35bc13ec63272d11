"""What people do to studies. What a study's course does not allow is answered with 409 and the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from polyward_server import coordination
from polyward_server.dashboard.answers import REFUSALS, Digest, Go, Said, as_conflict
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Coordinator
from polyward_shared.reading import Frozen

router = APIRouter(tags=["studies"], prefix="/studies/{digest}", responses=REFUSALS)


class When(Frozen):
    """`now`: the round under way is left, and sites are asked to end their work on it."""

    now: bool = False


class Nothing(Frozen):
    """There is no more to say than the address does."""


class More(Frozen):
    """How many rounds the study that goes on from this one has."""

    rounds: Annotated[int, Field(gt=0, le=100_000)]


class Place(Frozen):
    """Of studies that wait for their turn, those of a higher priority are first."""

    priority: Annotated[int, Field(ge=-coordination.HIGHEST, le=coordination.HIGHEST)]


@router.post("/pause")
def pause(request: Request, person: Coordinator, digest: Digest, when: When) -> Said:
    """Lets the study rest after its round."""
    with _study(request, digest) as desk:
        coordination.pause(desk.ledger, digest, person.name, now=when.now)
    return Said(said="pausing now" if when.now else "pausing after the round under way")


@router.post("/resume")
def resume(request: Request, person: Coordinator, digest: Digest, _: Nothing) -> Said:
    """Goes on with a paused study."""
    with _study(request, digest) as desk:
        coordination.resume(desk.ledger, digest, person.name)
    return Said(said="resuming")


@router.post("/stop")
def stop(request: Request, person: Coordinator, digest: Digest, when: When) -> Said:
    """Ends the study after its round; it can be queued again."""
    with _study(request, digest) as desk:
        coordination.stop(desk.ledger, digest, person.name, now=when.now)
    return Said(said="stopping now" if when.now else "stopping after the round under way")


@router.post("/extend")
def extend(request: Request, person: Coordinator, digest: Digest, more: More) -> Go:
    """A draft of a new study that goes on from this one's encoder, for the sites to approve."""
    with _study(request, digest) as desk:
        study = coordination.extension(desk.ledger, digest, more.rounds)
        made = coordination.draft(desk.ledger, study, person.name, extends=digest)
    return Go(go=f"/new/{made}")


@router.post("/priority")
def priority(request: Request, person: Coordinator, digest: Digest, place: Place) -> Said:
    """Moves the study in the queue."""
    with _study(request, digest) as desk:
        coordination.prioritise(desk.ledger, digest, place.priority, person.name)
    return Said(said=f"its priority is {place.priority}")


@router.post("/enqueue")
def enqueue(request: Request, person: Coordinator, digest: Digest, _: Nothing) -> Said:
    """Queues a draft, or a study that was stopped or failed, which goes on after its last round."""
    with _study(request, digest) as desk:
        coordination.enqueue(desk.ledger, desk.ledger.study(digest), person.name)
    return Said(said="queued")


@router.post("/discard")
def discard(request: Request, person: Coordinator, digest: Digest, _: Nothing) -> Go:
    """Forgets a draft."""
    with _study(request, digest) as desk:
        coordination.discard(desk.ledger, digest, person.name)
    return Go(go="/")


@contextmanager
def _study(request: Request, digest: str) -> Iterator[Desk]:
    """The desk, once the study is known; a transition that is refused becomes a conflict."""
    desk: Desk = request.app.state.desk
    desk.ledger.study_state(digest)  # raises where there is none: 404
    with as_conflict():
        yield desk
