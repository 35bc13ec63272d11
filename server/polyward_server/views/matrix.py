"""Sites by tasks: how far every branch is, how good, on how much, how fresh; and how every site is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from polyward_server.contacts import Contact
from polyward_server.views.picture import Picture, Point
from polyward_shared.buckets import bucket
from polyward_shared.messages import Stage
from polyward_shared.reading import Frozen
from polyward_shared.tasks import arrow, gain

STEP_OF_LOAD = 0.1  # a processor's load is told in tenths, so that the page does not move with every breath
GIGABYTE = 1e9


class BranchRow(Frozen):
    """One task at one site."""

    site: str
    task: str
    branch: str  # none, joined, trained, kept
    trained: int | None  # the last round to which it gave
    kept: str  # the model that the site keeps, once it has said so
    metric: str
    value: float | None  # the last one measured
    low: float | None
    high: float | None
    cases: int | None  # behind it
    measured: int | None  # in which round
    stage: str
    change: float | None  # against the measured round before, as it is
    better: bool | None  # whether that is a change for the better; None where nothing changed
    labels: str  # for training, in steps
    age: int | None  # rounds since it was measured


class SiteRow(Frozen):
    """One site, as it was last heard."""

    site: str
    here: bool
    standing: str  # here, away, never heard, revoked, left
    heard: datetime | None  # only of a site that is away
    work: str
    done: int
    of: int
    cpu: float | None  # part in use, in tenths
    memory_used: float | None  # GB
    memory_total: float | None
    gpus: tuple[str, ...]
    software: str
    certificate: datetime | None  # until when it is good
    certificate_days: int | None
    outlier: int  # rounds in which it stood out
    refused: int  # orders that it refused, or answers of it that were refused
    share: float | None  # of the encoder's last step


class TaskColumn(Frozen):
    """One task, and who brought the last round further."""

    task: str
    kind: str
    metric: str
    arrow: str  # where better lies
    owners: int
    gave: int  # of them, to the last round
    least: int | None  # owners that a round needs; None where the study names no number


class Matrix(Frozen):
    """`rows` are the cells, by site and task."""

    round: int
    sites: tuple[SiteRow, ...]
    tasks: tuple[TaskColumn, ...]
    rows: tuple[BranchRow, ...]

    @property
    def lines(self) -> list[tuple[SiteRow, tuple[BranchRow, ...]]]:
        """Each site with its cells in the order of the tasks."""
        width = len(self.tasks)
        return [(site, self.rows[place * width : (place + 1) * width]) for place, site in enumerate(self.sites)]


def read_matrix(picture: Picture) -> Matrix:
    """Reads it from the study's picture."""
    sites, tasks, split = picture.sites, sorted(picture.study.tasks), picture.split
    trained = {task: picture.series(task, split, Stage.TRAINED, picture.primary(task)) for task in tasks}
    final = {task: picture.series(task, split, Stage.FINAL, picture.primary(task)) for task in tasks}
    gave = _last_given(picture)
    troubles = _troubles(picture)
    now = datetime.now(UTC)
    return Matrix(
        round=picture.last,
        sites=tuple(_site(picture, site, troubles, now) for site in sites),
        tasks=tuple(_task(picture, task, gave) for task in tasks),
        rows=tuple(
            _branch(picture, site, task, gave.get(site), trained[task].get(site, ()), final[task].get(site, ()))
            for site in sites
            for task in tasks
        ),
    )


def _last_given(picture: Picture) -> dict[str, int]:
    """The last round to which each site gave."""
    return {each.site: number for number in sorted(picture.given) for each in picture.given[number]}


def _task(picture: Picture, task: str, gave: Mapping[str, int]) -> TaskColumn:
    owners = [site for site, member in picture.members.items() if member.agrees and task in member.counts]
    metric = picture.primary(task)
    return TaskColumn(
        task=task,
        kind=picture.study.tasks[task].kind,
        metric=metric,
        arrow=arrow(metric),
        owners=len(owners),
        gave=sum(gave.get(site) == picture.last for site in owners) if picture.last else 0,
        least=picture.study.participation.task_quorum.get(task),
    )


def _branch(
    picture: Picture,
    site: str,
    task: str,
    gave: int | None,
    trained: tuple[Point, ...],
    final: tuple[Point, ...],
) -> BranchRow:
    member, metric = picture.members.get(site), picture.primary(task)
    owns = member is not None and task in member.counts
    last, stage = (final[-1], Stage.FINAL) if final else (trained[-1] if trained else None, Stage.TRAINED)
    before = trained[-1] if final and trained else trained[-2] if len(trained) > 1 else None
    change = last.value - before.value if last and before else None
    kept = picture.kept.get((site, task), "")
    return BranchRow(
        site=site,
        task=task,
        branch="none" if not owns else "kept" if kept else "trained" if gave else "joined",
        trained=gave if owns else None,
        kept=kept,
        metric=metric,
        value=last.value if last else None,
        low=last.low if last else None,
        high=last.high if last else None,
        cases=last.cases if last else None,
        measured=last.round if last else None,
        stage=stage if last else "",
        change=change,
        better=gain(metric, last.value, before.value) > 0 if last and before and change else None,
        labels=bucket(member.counts[task]) if member is not None and owns else "",
        age=picture.last - last.round if last else None,
    )


def _troubles(picture: Picture) -> Counter[tuple[str, str]]:
    seen = {
        (event.site, "outlier" if event.what == "outlier" else "refused", event.round, noted.number)
        for noted, event in picture.told("outlier", "refused", "misfit")
    }
    return Counter((site, what) for site, what, _, _ in seen)


def _site(picture: Picture, site: str, troubles: Mapping[tuple[str, str], int], now: datetime) -> SiteRow:
    contact, member, expires = picture.contacts.get(site), picture.members.get(site), picture.expiries.get(site)
    here = contact is not None and contact.connected and site not in picture.revoked
    status = contact.status if contact is not None and here else {}
    machine, work = status.get("machine", {}), status.get("work", {})
    mine = work.get("study") == picture.digest
    doing = str(work.get("phase", "")) if status.get("state") == "working" else ""
    shares = {each.site: each.share for each in picture.given.get(picture.last, ())}
    return SiteRow(
        site=site,
        here=here,
        standing=_standing(picture, site, contact),
        heard=datetime.fromtimestamp(contact.at, UTC) if contact is not None and not here else None,
        work=(doing if mine else "another study") if doing else str(status.get("state", "")).replace("_", " "),
        done=int(work.get("done", 0)) if doing and mine else 0,
        of=int(work.get("of", 0)) if doing and mine else 0,
        cpu=round(machine["cpu"] / STEP_OF_LOAD) * STEP_OF_LOAD if "cpu" in machine else None,
        memory_used=round(machine["memory_used"] / GIGABYTE) if machine.get("memory_total") else None,
        memory_total=round(machine["memory_total"] / GIGABYTE) if machine.get("memory_total") else None,
        gpus=tuple(_gpu(gpu) for gpu in machine.get("gpus", ())),
        software=contact.software if contact is not None and contact.software else member.software if member else "",
        certificate=datetime.fromtimestamp(expires, UTC) if expires else None,
        certificate_days=int((expires - now.timestamp()) // 86400) if expires else None,
        outlier=troubles.get((site, "outlier"), 0),
        refused=troubles.get((site, "refused"), 0),
        share=shares.get(site),
    )


def _standing(picture: Picture, site: str, contact: Contact | None) -> str:
    if site in picture.revoked:
        return "revoked"
    if (member := picture.members.get(site)) is not None and not member.agrees:
        return "left"
    if contact is None:
        return "never heard"
    return "here" if contact.connected else "away"


def _gpu(gpu: Mapping[str, float]) -> str:
    used, whole = gpu["memory_used"] / GIGABYTE, gpu["memory_total"] / GIGABYTE
    return f"{gpu['model'] or 'GPU'} {round(gpu['busy'] * 10) * 10} %, {used:.0f} of {whole:.0f} GB"
