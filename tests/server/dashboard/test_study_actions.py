"""What a coordinator does to studies from a browser, by whom it was done, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from polyward_server.records import State
from tests.support.dashboard import Served
from tests.support.toy_trainer import toy_study

ACTIONS: dict[str, dict[str, Any]] = {
    "pause": {},
    "resume": {},
    "stop": {"now": True},
    "extend": {"rounds": 5},
    "priority": {"priority": 3},
    "enqueue": {},
    "discard": {},
}


def queued(dashboard: Served, name: str, state: State | None = None) -> str:
    digest = dashboard.ledger.queue(toy_study(id=name))
    if state is not None:
        dashboard.ledger.set_state(digest, state)
    return digest


def done(dashboard: Served, digest: str, action: str, role: str = "coordinator", **body: Any) -> tuple[int, str]:
    """Status and sentence of the answer."""
    with dashboard.browser(role, "ada" if role == "coordinator" else "") as page:
        answer = page.post(f"/studies/{digest}/{action}", json={**ACTIONS[action], **body})
    told = answer.json()
    return answer.status_code, str(told.get("said") or told.get("go") or told.get("detail"))


def last_event(dashboard: Served, digest: str) -> tuple[str, str]:
    event = dashboard.ledger.noted(study=digest)[-1].event
    return event.what, event.actor


def test_pause_resume_and_stop_bear_the_persons_name(dashboard: Served) -> None:
    digest = queued(dashboard, "course", State.RUNNING)
    for action, state in (("pause", "paused"), ("resume", "resuming"), ("stop", "stopped"), ("enqueue", "queued")):
        assert done(dashboard, digest, action)[0] == 200
        assert dashboard.ledger.study_state(digest)[0] == state
        assert last_event(dashboard, digest) == (state, "ada")


def test_what_the_course_does_not_have_is_a_conflict_that_says_what_is_possible(dashboard: Served) -> None:
    digest = queued(dashboard, "conflict", State.RUNNING)
    assert done(dashboard, digest, "resume") == (409, f"study {digest[:8]}: is running; expected one that is paused")
    dashboard.ledger.set_state(digest, State.FINISHED)
    for action in ("pause", "resume", "stop", "enqueue", "discard", "priority"):
        before = len(dashboard.ledger.noted())
        status, sentence = done(dashboard, digest, action)
        if action == "enqueue" and status == 200:
            continue  # there is nothing left to do, and nothing is done
        assert (action, status) == (action, 409)
        assert "conflict" in sentence or digest[:8] in sentence
        assert len(dashboard.ledger.noted()) == before
    assert dashboard.ledger.study_state(digest)[0] == "finished"


def test_a_priority_moves_a_study_to_the_front(dashboard: Served) -> None:
    first, second = queued(dashboard, "one"), queued(dashboard, "two")
    waiting = [digest for digest in dashboard.ledger.in_line() if digest in {first, second}]
    assert waiting == [first, second]
    assert done(dashboard, second, "priority")[0] == 200
    waiting = [digest for digest in dashboard.ledger.in_line() if digest in {first, second}]
    assert waiting == [second, first]
    assert done(dashboard, second, "priority", priority=10**9)[0] == 422


def test_an_extension_is_a_draft_that_begins_with_the_encoder_so_far(dashboard: Served) -> None:
    [digest] = [
        each for each in dashboard.ledger.studies_in(*State) if dashboard.ledger.study(each).id == "breast-demo"
    ]
    status, where = done(dashboard, digest, "extend")
    assert status == 200
    made = where.removeprefix("/new/")
    study, last = dashboard.ledger.study(made), dashboard.ledger.last_round(digest)
    assert last is not None
    assert (study.rounds, study.encoder.start) == (5, last.state)
    assert dashboard.ledger.study_state(made)[0] == "draft"
    assert done(dashboard, made, "discard") == (200, "/")
    assert made not in dashboard.ledger.studies_in(*State)


@pytest.mark.parametrize("action", ACTIONS)
def test_viewers_may_not_and_unknown_studies_are_not_there(dashboard: Served, action: str) -> None:
    digest = queued(dashboard, "still")
    before = len(dashboard.ledger.noted())
    assert done(dashboard, digest, action, role="viewer")[0] == 403
    assert done(dashboard, "0" * 64, action)[0] == 404
    assert done(dashboard, "x" * 64, action)[0] == 422
    assert done(dashboard, digest, action, more="x")[0] == 422
    assert len(dashboard.ledger.noted()) == before


@pytest.mark.parametrize("rounds", [0, -1, 10**9, "many", None, 1.5])
def test_rounds_are_a_number(dashboard: Served, rounds: object) -> None:
    assert done(dashboard, queued(dashboard, "still"), "extend", rounds=rounds)[0] == 422
