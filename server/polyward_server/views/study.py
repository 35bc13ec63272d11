"""The head of a study's page: where it stands, when it will be done, what is waited for, and what may be done now."""

from __future__ import annotations

from datetime import datetime, timedelta

from polyward_server.course import NEXT
from polyward_server.records import ENDED, State
from polyward_server.views.picture import Picture, moment
from polyward_shared.reading import Frozen
from polyward_shared.study import Study

PACE = 5  # rounds whose seconds foretell the next ones'


class ApprovalRow(Frozen):
    """Whether one site says that it has approved this digest."""

    site: str
    approved: datetime | None
    member: bool  # it has joined and has not left
    here: bool


class StudyHead(Frozen):
    """One study. Times to come are moments, not spans, so that they stay what they are while they come nearer."""

    study: str  # digest
    id: str
    state: State
    reason: str
    ending: bool  # paused or stopped, but its round is not over yet
    author: str
    extends: str  # digest of the study that it goes on from, or empty
    round: int  # the last committed one
    rounds: int
    committed: datetime | None  # when that was
    opened: datetime | None  # when the first site was asked for the round after it
    deadline: datetime | None
    afterwards: str  # what happens at the deadline
    done: datetime | None  # at the pace of the last rounds; None where nothing tells, or nothing moves
    pace_seconds: float | None  # of a round
    quorum: int
    members: int
    here: int
    place: int | None  # in the line, 1 is next or under way; None for studies that do not stand in it
    leads: str  # id of the study that is first in the line, or empty
    leader: str  # its digest
    possible: tuple[str, ...]  # what a coordinator may do in this state
    rows: tuple[ApprovalRow, ...]

    @property
    def approved(self) -> tuple[str, ...]:
        return tuple(row.site for row in self.rows if row.approved)

    @property
    def unapproved(self) -> tuple[str, ...]:
        return tuple(row.site for row in self.rows if not row.approved)


def read_head(picture: Picture) -> StudyHead:
    """Reads it from the study's picture."""
    study, opened = picture.study, picture.opened
    here = {site for site, contact in picture.contacts.items() if contact.connected}
    members = {site for site, member in picture.members.items() if member.agrees}
    pace = [each.seconds for each in picture.rounds if each.number][-PACE:]
    mean = sum(pace) / len(pace) if pace else None
    committed = moment(picture.rounds[-1].committed) if picture.rounds else None
    left = study.rounds - picture.last
    going = picture.state is State.RUNNING and mean is not None and left > 0 and committed is not None
    line = [digest for digest, _ in picture.line]
    return StudyHead(
        study=picture.digest,
        id=study.id,
        state=picture.state,
        reason=picture.reason,
        ending=picture.held and picture.state in {State.PAUSED, State.STOPPED},
        author=picture.author,
        extends=picture.extends,
        round=picture.last,
        rounds=study.rounds,
        committed=committed if picture.last else None,
        opened=opened,
        deadline=opened + timedelta(seconds=study.participation.deadline_seconds) if opened else None,
        afterwards=_afterwards(study),
        done=(opened or committed) + timedelta(seconds=left * mean) if going and mean and committed else None,
        pace_seconds=mean,
        quorum=study.participation.quorum,
        members=len(members),
        here=len(members & here),
        place=line.index(picture.digest) + 1 if picture.digest in line else None,
        leads=picture.line[0][1] if picture.line else "",
        leader=line[0] if line else "",
        possible=_possible(picture),
        rows=tuple(
            ApprovalRow(
                site=site,
                approved=moment(picture.approvals[site]) if site in picture.approvals else None,
                member=site in members,
                here=site in here,
            )
            for site in sorted(picture.admitted | picture.approvals.keys())
        ),
    )


def _afterwards(study: Study) -> str:
    rule = study.participation
    tasks = ", ".join(f"{count} of {task}" for task, count in sorted(rule.task_quorum.items()))
    late = (
        f"a site whose work still comes further is waited for, at most {rule.longest_seconds / 3600:.3g} h in all; "
        if rule.stall_seconds
        else ""
    )
    return (
        f"At the deadline {late}then the round is committed with the sites that have answered, if they are "
        f"{rule.quorum} or more{f', among them {tasks}' if tasks else ''}. With fewer it is asked again."
    )


def _possible(picture: Picture) -> tuple[str, ...]:
    """By the study's course; a priority counts only for those that wait for their turn."""
    state, following = picture.state, NEXT[picture.state]
    allowed = {
        "enqueue": State.QUEUED in following,
        "resume": state is State.PAUSED,
        "pause": State.PAUSED in following,
        "stop": State.STOPPED in following,
        "priority": state is State.QUEUED,
        "extend": state in ENDED and picture.last > 0 and picture.study.aggregation.traits.encoders == "one",
        "discard": state is State.DRAFT,
    }
    return tuple(word for word, may in allowed.items() if may)
