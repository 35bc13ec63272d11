"""The course of a study: every walk through the states is one that the table allows, and each step has its event."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from polyward_server import audit, coordination
from polyward_server.course import AT_ONCE, NEXT
from polyward_server.ledger import Ledger
from polyward_server.records import ENDED, RUNS, State
from polyward_shared.problems import Problem
from tests.support.toy_trainer import toy_study

STUDY = toy_study()
DIGEST = STUDY.digest()


class Course(RuleBasedStateMachine):
    """People and the runner do whatever comes to their minds."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger("sqlite://")
        coordination.draft(self.ledger, STUDY, "ada")
        self.walked = [State.DRAFT]

    @property
    def state(self) -> State:
        return State(self.ledger.study_state(DIGEST)[0])

    @rule(to=st.sampled_from(list(State)), reason=st.text(max_size=20))
    def change(self, to: State, reason: str) -> None:
        if to not in NEXT[self.walked[-1]]:
            with pytest.raises(Problem, match=f"is {self.walked[-1]}"):
                self.ledger.set_state(DIGEST, to, reason, actor="ada")
            return
        assert self.ledger.set_state(DIGEST, to, reason, actor="ada")
        self.walked.append(to)
        assert self.ledger.study_state(DIGEST) == (to, reason)

    @rule(to=st.sampled_from(list(State)), only_from=st.sets(st.sampled_from(list(State))))
    def change_unless_overtaken(self, to: State, only_from: set[State]) -> None:
        before = self.walked[-1]
        if self.ledger.set_state(DIGEST, to, only_from=only_from):
            assert before in only_from
            assert to in NEXT[before]
            self.walked.append(to)
        else:
            assert before not in only_from or to not in NEXT[before]

    @rule()
    def enqueue(self) -> None:
        before = self.walked[-1]
        if before == State.PAUSED:
            with pytest.raises(Problem, match="resume"):
                coordination.enqueue(self.ledger, STUDY, "ada")
            return
        coordination.enqueue(self.ledger, STUDY, "ada")
        if before in {State.DRAFT, State.STOPPED, State.FAILED}:
            self.walked.append(State.QUEUED)

    @rule(now=st.booleans())
    def pause(self, now: bool) -> None:
        before = self.walked[-1]
        if State.PAUSED not in NEXT[before]:
            with pytest.raises(Problem, match=f"is {before}"):
                coordination.pause(self.ledger, DIGEST, "ada", now=now)
            return
        coordination.pause(self.ledger, DIGEST, "ada", now=now)
        self.walked.append(State.PAUSED)
        assert (self.ledger.study_state(DIGEST)[1] == AT_ONCE) == (now or before == State.WAITING)

    @invariant()
    def one_state_and_its_events(self) -> None:
        assert self.state == self.walked[-1]
        told = [noted.event for noted in self.ledger.noted(study=DIGEST)]
        assert [event.what for event in told if event.what in set(State) and not event.site] == self.walked
        assert self.ledger.in_line() == ([DIGEST] if self.state in RUNS else [])
        with self.ledger.engine.connect() as db:
            audit.verify(db)

    def teardown(self) -> None:
        self.ledger.close()


TestCourse = Course.TestCase
TestCourse.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_every_state_can_be_reached_and_only_the_end_is_final() -> None:
    assert {to for following in NEXT.values() for to in following} | {State.DRAFT} == set(State) == set(NEXT)
    assert {state for state, following in NEXT.items() if not following} == {State.FINISHED}
    assert not any(State.RUNNING in NEXT[state] for state in (*ENDED, State.PAUSED, State.DRAFT))


def test_an_impossible_change_says_what_is_possible() -> None:
    ledger = Ledger("sqlite://")
    with pytest.raises(Problem, match="not known here"):
        ledger.set_state(DIGEST, State.PAUSED)
    coordination.draft(ledger, STUDY, "ada")
    with pytest.raises(Problem, match=r"is draft, and cannot become paused; expected .* it can become queued"):
        coordination.pause(ledger, DIGEST, "ada")
    ledger.close()
