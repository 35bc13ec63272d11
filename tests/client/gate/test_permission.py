"""What the site's people want counts at once: pause, withdrawal, a stricter policy, the end of the working hours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from polyward_client.decisions import RECORD, Verdict, decide
from polyward_client.gate import permission
from polyward_client.gate.permission import Guard, Permission
from polyward_client.gate.used import add_seconds, used_hours
from polyward_client.site import Site, read_site
from polyward_shared.chain import Chain
from polyward_shared.messages import Kind, Order
from polyward_shared.problems import Code, Problem, Refused
from tests.support.toy_trainer import toy_site, toy_study

STUDY = toy_study()
DIGEST = STUDY.digest()
TRAIN = Order(kind=Kind.TRAIN, study=DIGEST, round=1)
JOIN = Order(kind=Kind.JOIN, study=DIGEST)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return toy_site(tmp_path, "a", STUDY, ("mask",))


def rules(site: Site, toml: str) -> None:
    """Writes the site's file anew with this policy."""
    text = site.path.read_text().partition("[policy]")[0]
    site.path.write_text(f"{text}[policy]\n{toml}\n")


def code_of(asked: Permission, order: Order = TRAIN) -> Code:
    with pytest.raises(Refused) as caught:
        asked.check(order)
    return caught.value.code


def at(text: str) -> Iterator[datetime]:
    while True:
        yield datetime.fromisoformat(f"2026-03-01T{text}")


def test_an_approved_study_is_allowed(site: Site) -> None:
    approval, policy = Permission(site).check(TRAIN)
    assert (approval.study, policy) == (STUDY, site.file.policy)


def test_pause_and_resume(site: Site) -> None:
    asked = Permission(site)
    site.paused.touch()
    assert [code_of(asked, order) for order in (TRAIN, JOIN)] == [Code.PAUSED, Code.PAUSED]
    site.paused.unlink()
    asked.check(TRAIN)


def test_withdrawn_rejected_and_unknown(site: Site) -> None:
    asked = Permission(site)
    decide(site.approved, Verdict.WITHDRAWN, study=DIGEST)
    assert code_of(asked) is Code.WITHDRAWN
    decide(site.approved, Verdict.REJECTED, study=DIGEST)
    assert code_of(asked) is Code.STUDY_NOT_APPROVED
    assert code_of(asked, Order(kind=Kind.JOIN, study="f" * 64)) is Code.STUDY_NOT_APPROVED


def test_a_policy_that_became_stricter_counts_without_a_restart(site: Site) -> None:
    asked = Permission(site)
    asked.check(TRAIN)
    rules(site, "minimum_sites = 3")
    assert [code_of(asked, order) for order in (TRAIN, JOIN)] == [Code.POLICY, Code.POLICY]
    rules(site, "minimum_sites = 2\nminimum_count = 7")
    assert asked.check(TRAIN)[1].minimum_count == 7


@pytest.mark.parametrize("text", ["", "name = ", "[policy]\nminimum_sites = 'many'\n", "name = 'a'\nunknown = 1\n"])
def test_a_broken_site_file_refuses_everything_until_it_is_mended(site: Site, text: str) -> None:
    asked, sound = Permission(site), site.path.read_text()
    site.path.write_text(text)
    assert [code_of(asked), code_of(asked)] == [Code.POLICY, Code.POLICY]
    site.path.unlink()
    assert code_of(asked) is Code.POLICY
    site.path.write_text(sound)
    asked.check(TRAIN)


def test_what_cannot_be_read_refuses(site: Site) -> None:
    asked = Permission(site)
    record = site.approved / RECORD
    sound = record.read_text()
    for broken in (sound.replace("approved", "withdrawn", 1), sound[:-9], "x\n", '{"seq":0}\n'):
        record.write_text(broken)
        assert code_of(asked) is Code.POLICY
    record.write_text(sound)
    asked.check(TRAIN)
    (site.approved / f"{DIGEST}.json").rename(site.approved / "elsewhere")
    assert code_of(asked) is Code.POLICY
    (site.approved / "elsewhere").rename(site.approved / f"{DIGEST}.json")
    site.gate.mkdir()
    (site.gate / "used.json").write_text("[]")
    assert code_of(asked) is Code.POLICY


def test_a_line_of_another_kind_is_no_decision(site: Site) -> None:
    decide(site.approved, Verdict.PAUSED)
    Permission(site).check(TRAIN)
    Chain(site.approved / RECORD).append({"what": "approved"})
    assert code_of(Permission(site)) is Code.POLICY


def test_outside_the_hours_joins_are_answered_and_rounds_are_not(site: Site) -> None:
    rules(site, 'hours = ["22:00-06:00"]')
    night = read_site(site.path)
    for text, allowed in (("23:00", True), ("05:59", True), ("12:00", False)):
        asked = Permission(night, clock=at(text).__next__)
        asked.check(JOIN)
        if allowed:
            asked.check(TRAIN)
        else:
            assert code_of(asked) is Code.POLICY


def test_the_hours_of_a_study_are_summed_and_end_it(site: Site) -> None:
    rules(site, "gpu_hours = 1.0")
    asked = Permission(read_site(site.path))
    add_seconds(site, DIGEST, 1800)
    add_seconds(site, "f" * 64, 9999)
    assert used_hours(site, DIGEST) == 0.5
    asked.check(TRAIN, 1799)
    with pytest.raises(Refused, match=r"trained here for 1\.00 of 1 hours"):
        asked.check(TRAIN, 1800)
    add_seconds(site, DIGEST, 1800)
    assert code_of(asked) is Code.POLICY
    (site.gate / "used.json").write_text('{"x": "y"}')
    with pytest.raises(Problem, match="is damaged"):
        add_seconds(site, DIGEST, 1)


def test_the_guard_cancels_until_the_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two cancellations are lost, as with a trainer that has not begun yet."""
    monkeypatch.setattr(permission, "LOOK_SECONDS", 0.01)
    told, heard = [0.0], threading.Event()

    def check(seconds: float) -> None:
        raise Refused(Code.WITHDRAWN)

    def cancel() -> None:
        told[0] += 1
        if told[0] < 3:
            raise Refused(Code.TRAINER_DIED)
        heard.set()

    with Guard(check, cancel) as guard:
        assert heard.wait(10)
    assert guard.refused is not None
    assert guard.refused.code is Code.WITHDRAWN
    before = told[0]
    assert not threading.Event().wait(0.05)
    assert told[0] == before, "nothing is cancelled once the work has ended"


def test_the_guard_lets_allowed_work_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permission, "LOOK_SECONDS", 0.001)
    asked = threading.Event()
    with Guard(lambda seconds: asked.set(), lambda: pytest.fail("was cancelled")) as guard:
        assert asked.wait(10)
    assert guard.refused is None
