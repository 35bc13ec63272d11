"""Deciding on the command line: show, approve, reject, withdraw, pause, resume."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tomli_w

from polyward_client.approvals import approved_now
from polyward_client.cli import main
from polyward_client.decisions import Verdict, read_decisions
from polyward_client.site import Site, read_site
from polyward_shared.problems import Code, Refused
from polyward_shared.study import Study, read_study
from tests.support.images import make_study, write_site

TASKS = ("bright", "area")


class Keyboard:
    """A person at the site's terminal."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.site: Site = write_site(folder, tasks=TASKS)
        self.file = folder / "study.toml"
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.setenv("COLUMNS", "200")

    def study(self, **changes: object) -> Study:
        text = make_study(tasks=TASKS, **changes).model_dump(mode="json", exclude_none=True)
        self.file.write_text(tomli_w.dumps(text))
        return read_study(self.file)

    def policy(self, toml: str) -> None:
        self.site.path.write_text(f"{self.site.path.read_text()}\n[policy]\n{toml}\n")

    def run(self, command: str, *arguments: str, code: int = 0) -> str:
        """What the command prints, results and talk, after it has ended with this code."""
        self._monkeypatch.setattr(sys, "argv", ["polyward-node", command, str(self.site.path), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        told = self._capsys.readouterr()
        assert int(ended.value.code or 0) == code, told
        return told.out + told.err

    def verdicts(self) -> list[Verdict]:
        return [each.verdict for each in read_decisions(self.site.approved)]


@pytest.fixture
def keyboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Keyboard:
    return Keyboard(tmp_path, monkeypatch, capsys)


def standing(site: Site, study: Study) -> Code | None:
    try:
        approved_now(site.approved, study.digest())
    except Refused as refused:
        return refused.code
    return None


def test_from_proposal_to_approval_to_withdrawal_and_back(keyboard: Keyboard) -> None:
    study = keyboard.study()
    digest, start = study.digest(), study.digest()[:6]
    assert "knows no study yet" in keyboard.run("studies")
    shown = keyboard.run("show", str(keyboard.file))
    assert "bright: binary" in shown
    assert "in each of 2 rounds" in shown
    assert "ok       minimum_sites: a round of this study needs the answers of 2" in shown
    assert "not approved" in shown
    assert standing(keyboard.site, study) is Code.STUDY_NOT_APPROVED
    assert "proposed" in keyboard.run("studies")
    keyboard.file.unlink()  # what was shown is what is approved
    keyboard.run("approve", start, "--yes")
    assert standing(keyboard.site, study) is None
    assert "approved" in keyboard.run("studies")
    assert keyboard.run("show", start, "--all").count("encoder.") > 5
    keyboard.run("withdraw", study.id, "--reason", "consent ended")
    assert standing(keyboard.site, study) is Code.WITHDRAWN
    assert "withdrawn: consent ended" in keyboard.run("studies")
    assert "is not approved here" in keyboard.run("withdraw", start, code=2)
    keyboard.run("approve", digest, "--yes")
    assert standing(keyboard.site, study) is None
    assert keyboard.verdicts() == [Verdict.APPROVED, Verdict.WITHDRAWN, Verdict.APPROVED]


def test_a_rejected_study_stays_known_with_its_reason(keyboard: Keyboard) -> None:
    study = keyboard.study()
    keyboard.run("reject", str(keyboard.file), "--reason", "too many rounds")
    assert standing(keyboard.site, study) is Code.STUDY_NOT_APPROVED
    assert "rejected: too many rounds" in keyboard.run("studies")
    keyboard.run("approve", study.digest(), "--yes")
    assert "take it back with polyward-node withdraw" in keyboard.run(
        "reject", study.digest(), "--reason", "late", code=2
    )


def test_without_a_terminal_and_without_yes_nothing_is_approved(keyboard: Keyboard) -> None:
    study = keyboard.study()
    said = keyboard.run("approve", str(keyboard.file), code=2)
    assert "in each of 2 rounds" in said
    assert "add --yes" in said
    assert standing(keyboard.site, study) is Code.STUDY_NOT_APPROVED


@pytest.mark.parametrize(("answer", "code", "stands"), [(True, 0, None), (False, 1, Code.STUDY_NOT_APPROVED)])
def test_at_a_terminal_the_person_is_asked(
    keyboard: Keyboard, monkeypatch: pytest.MonkeyPatch, answer: bool, code: int, stands: Code | None
) -> None:
    study = keyboard.study()
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: answer)
    keyboard.run("approve", str(keyboard.file), code=code)
    assert standing(keyboard.site, study) is stands


@pytest.mark.parametrize("toml", ["minimum_sites = 3", "epsilon = 1.0", "gpu_hours = 1e-9\nepsilon = 3.0"])
def test_what_the_policy_refuses_cannot_be_approved(keyboard: Keyboard, toml: str) -> None:
    study = keyboard.study()
    keyboard.policy(toml)
    assert "this site's policy refuses it; policy." in keyboard.run("approve", str(keyboard.file), "--yes", code=2)
    assert "refused" in keyboard.run("show", str(keyboard.file))
    assert standing(keyboard.site, study) is Code.STUDY_NOT_APPROVED


def test_a_study_may_be_approved_outside_the_hours(keyboard: Keyboard) -> None:
    study = keyboard.study()
    keyboard.policy('hours = ["00:00-00:01", "00:01-00:02"]')
    assert "hours: orders are worked on at 00:00-00:01" in keyboard.run("approve", str(keyboard.file), "--yes")
    assert standing(keyboard.site, study) is None


def test_what_changed_since_the_last_approved_version_is_said(keyboard: Keyboard) -> None:
    first = keyboard.study()
    assert "no other version of toy was approved" in keyboard.run("approve", str(keyboard.file), "--yes")
    keyboard.study(rounds=9, sharing={"branches": "task"})
    said = keyboard.run("show", str(keyboard.file))
    assert f"changed since the version {first.digest()[:8]}" in said
    assert "rounds: was 2, is 9 (how many times arrays leave)" in said
    assert "sharing.branches: was 'site', is 'task'" in said
    assert "arrays leave that did not before: branches." in said


def test_the_approval_holds_the_policy_of_the_day(keyboard: Keyboard) -> None:
    keyboard.study()
    keyboard.policy("minimum_count = 7")
    keyboard.run("approve", str(keyboard.file), "--yes")
    [line] = (keyboard.site.approved / "decisions.jsonl").read_text().splitlines()
    assert json.loads(line)["policy"]["minimum_count"] == 7


def test_pause_and_resume(keyboard: Keyboard) -> None:
    place = read_site(keyboard.site.path)
    assert "is not paused" in keyboard.run("resume")
    keyboard.run("pause")
    assert place.paused.exists()
    assert "paused already" in keyboard.run("pause")
    keyboard.run("resume")
    assert not place.paused.exists()
    assert keyboard.verdicts() == [Verdict.PAUSED, Verdict.RESUMED]


def test_a_pause_counts_even_when_the_record_is_broken(keyboard: Keyboard) -> None:
    keyboard.site.approved.mkdir(parents=True)
    (keyboard.site.approved / "decisions.jsonl").write_text("x\n")
    assert "the chain is broken" in keyboard.run("pause", code=2)
    assert keyboard.site.paused.exists()


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ("abcd", "names no studies"),
        ("elsewhere.toml", "there is no such file"),
        ("../x", "there is no such file"),
        ("abc", "there is no such file"),
    ],
)
def test_a_study_that_is_not_known(keyboard: Keyboard, study: str, said: str) -> None:
    for command in (("show", study), ("approve", study, "--yes"), ("withdraw", study)):
        assert said in keyboard.run(*command, code=2)


def test_a_kept_text_that_was_changed_is_a_problem(keyboard: Keyboard) -> None:
    digest = keyboard.study().digest()
    keyboard.run("show", str(keyboard.file))
    path = keyboard.site.approved / "studies" / f"{digest}.json"
    path.write_text(path.read_text().replace('"rounds":2', '"rounds":200'))
    assert "is damaged" in keyboard.run("approve", digest, "--yes", code=2)
