"""`polyward-hub` as a coordinator types it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from typer.testing import CliRunner

from polyward_server.cli.app import app
from polyward_server.cli.studies import sentence
from polyward_server.commands import orders
from polyward_server.enrolment import Authority, sign_approved
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import Event, Member, Round
from polyward_server.registry import Registry
from polyward_server.roster import Roster, hashed
from polyward_shared import pki
from polyward_shared.invitation import read_invitation
from polyward_shared.messages import Metric, Stage
from polyward_shared.problems import Problem
from polyward_shared.states import write_state
from polyward_shared.study import read_study

STUDY = 'id = "toy"\nrounds = 3\n[image]\nsize = [32, 32]\n[tasks.mask]\nkind = "segmentation"\n'


def polyward(*arguments: str | Path) -> str:
    """What one command prints, on both streams. Raises what it raises."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    polyward("init", tmp_path / "hub", "--name", "north", "--port", "9443")
    return Hub(tmp_path / "hub")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def registered(hub: Hub, name: str) -> str:
    """A site that has joined; its key's fingerprint."""
    public = pki.public_pem(pki.new_key()).decode()
    ledger = Ledger(hub.ledger)
    Roster(ledger).register(name, public)
    ledger.close()
    return pki.fingerprint(public)


def test_from_nothing_to_a_queued_study(hub: Hub, study: Path) -> None:
    assert (hub.file.name, hub.file.port) == ("north", 9443)
    fingerprint = registered(hub, "riverside")
    told = polyward("run", hub.folder, study, "--no-follow")
    assert "the hub is not running" in told
    ledger = Ledger(hub.ledger)
    [digest] = ledger.studies_in("queued")
    assert digest in told
    shown = polyward("status", hub.folder)
    assert "north not serving" in shown
    assert f"site riverside: away, key {fingerprint}" in shown
    assert "0/3" in shown
    ledger.commit_round(digest, Round(0, "s" * 64, "e" * 64, 0.0))
    ledger.commit_round(digest, Round(1, "s" * 64, "f" * 64, 0.0))
    assert "1/3" in polyward("status", hub.folder)
    polyward("end", hub.folder, study)
    assert ledger.study_state(digest)[0] == "stopped"
    polyward("run", hub.folder, study, "--no-follow")
    assert ledger.study_state(digest) == ("queued", "")
    ledger.close()


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("failed", 2)])
def test_following_ends_with_the_study(hub: Hub, study: Path, state: str, code: int) -> None:
    registered(hub, "riverside")
    polyward("run", hub.folder, study, "--no-follow")
    ledger = Ledger(hub.ledger)
    [digest] = ledger.studies_in("queued")
    ledger.note(Event(digest, 1, "riverside", "reported", "mask dice 0.500 (n=[7])"))
    ledger.set_state(digest, "running")
    end = threading.Timer(0.3, ledger.set_state, (digest, state, "why"))
    end.start()
    result = CliRunner().invoke(app, ["run", str(hub.folder), str(study)])
    assert result.exit_code == code
    assert "riverside        reported mask dice 0.500 (n=[7])" in result.output
    assert f"{state} why" in result.output
    end.join()
    ledger.close()


def test_an_encoder_is_imported_under_its_digest(hub: Hub, tmp_path: Path) -> None:
    write_state(tmp_path / "a.safetensors", {"encoder.w": np.ones(3, np.float32)}, {})
    digest = polyward("import", hub.folder, tmp_path / "a.safetensors").strip()
    assert Registry(hub.registry).load(digest)[1].tolist() == [1, 1, 1]


def test_events_as_sentences() -> None:
    assert sentence(Event("s", 3, "a", "asked", "attempt 1")) == ""
    assert sentence(Event("s", 3, "", "committed", "e" * 64)) == f"round   3  hub              encoder {'e' * 16}"
    assert sentence(Event("s", 12, "a", "refused", "policy")) == "round  12  a                refused policy"


def test_gains_need_figures_of_both_models(hub: Hub, study: Path) -> None:
    digest = Ledger(hub.ledger).queue(read_study(study))
    refused = CliRunner().invoke(app, ["gains", str(hub.folder), str(study)])
    assert "no site has reported figures of both models" in str(refused.exception)
    rows = [
        ("north", Metric("mask", "test", stage, "dice", value, 30))
        for stage, value in ((Stage.TRAINED, 0.75), (Stage.ALONE, 0.5))
    ]
    Ledger(hub.ledger).commit_round(digest, Round(1, "s" * 64, "e" * 64, 1.0), figures=rows)
    shown = polyward("gains", hub.folder, study)
    assert "+0.250" in shown
    assert "federated better in 1 of 1, worse in 0;" in shown


def asks(hub: Hub, folder: Path, site: str, *options: str) -> str:
    """A site that has used its invitation; the fingerprint of its key."""
    output = folder / f"{site}.invitation"
    told = polyward("invite", hub.folder, site, "--output", output, *options)
    assert "good once, until" in told
    assert "the hub is not running" in told
    assert output.stat().st_mode & 0o777 == 0o600
    invitation = read_invitation(output.read_text())
    assert (invitation.site, invitation.address, invitation.control) == (site, "127.0.0.1:9443", "127.0.0.1:9444")
    key = pki.new_key()
    ledger = Ledger(hub.ledger)
    assert Roster(ledger).use(invitation.token, pki.new_request(site, key).decode())
    ledger.close()
    return pki.fingerprint(pki.public_pem(key).decode())


def test_who_asks_is_approved_by_fingerprint_or_rejected(hub: Hub, tmp_path: Path) -> None:
    fingerprint = asks(hub, tmp_path, "north")
    assert "asks to join" in polyward("sites", hub.folder)
    with pytest.raises(Problem, match="expected dead beef"):
        polyward("approve", hub.folder, "north", "--fingerprint", "dead beef")
    declined = CliRunner().invoke(app, ["approve", str(hub.folder), "north"], input="n\n")
    assert fingerprint in declined.output
    assert isinstance(declined.exception, Problem)
    ledger = Ledger(hub.ledger)
    assert Roster(ledger).waiting(approved=True) == []
    polyward("approve", hub.folder, "north", "--fingerprint", fingerprint.upper())
    assert sign_approved(Roster(ledger), Authority(hub)) == ["north"]
    assert "13." in polyward("sites", hub.folder) or "14." in polyward("sites", hub.folder)
    polyward("revoke", hub.folder, "north")
    assert "revoked" in polyward("sites", hub.folder)
    assert not Roster(ledger).keys()
    asks(hub, tmp_path, "south")
    polyward("reject", hub.folder, "south")
    assert Roster(ledger).waiting(approved=False) == []
    ledger.close()


def test_an_invitation_may_be_approved_beforehand_and_is_kept_as_a_hash(hub: Hub, tmp_path: Path) -> None:
    asks(hub, tmp_path, "north", "--pre-approved")
    ledger = Ledger(hub.ledger)
    [waiting] = Roster(ledger).waiting(approved=True)
    ledger.close()
    token = read_invitation((tmp_path / "north.invitation").read_text()).token
    assert waiting.token == hashed(token)
    assert token.encode() not in b"".join(path.read_bytes() for path in hub.folder.glob("ledger.db*"))


def test_sites_behind_a_gateway_are_told_its_address(tmp_path: Path) -> None:
    polyward("init", tmp_path / "hub", "--host", "10.0.0.5", "--gateway", "hub.example.org:443")
    told = polyward("invite", tmp_path / "hub", "north").split()
    invitation = read_invitation(next(word for word in told if word.startswith("polyward1.")))
    assert (invitation.address, invitation.control) == ("hub.example.org:443",) * 2
    certificate = pki.read_certificate(Hub(tmp_path / "hub").certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "hub.example.org" in names.get_values_for_type(x509.DNSName)


def test_ending_at_once_asks_the_members_to_stop(hub: Hub, study: Path) -> None:
    registered(hub, "riverside")
    polyward("run", hub.folder, study, "--no-follow")
    ledger = Ledger(hub.ledger)
    [digest] = ledger.studies_in("queued")
    ledger.join(digest, Member("riverside", 10, {"mask": 10}, "{}", "", agrees=True))
    polyward("end", hub.folder, study, "--now")
    assert [(w.site, w.what, w.study) for w in orders(ledger)] == [("riverside", "cancel", digest)]
    ledger.close()


def test_the_record_is_compared_with_a_head_that_was_kept(hub: Hub, study: Path) -> None:
    Ledger(hub.ledger).queue(read_study(study))
    head = Ledger(hub.ledger).noted()[-1].hash
    assert "is the one after event" in polyward("verify", hub.folder, "--head", head)
    refused = CliRunner().invoke(app, ["verify", str(hub.folder), "--head", "0" * 63])
    assert "is none that this chain ever had" in str(refused.exception)


def test_a_record_that_is_not_there_is_no_fault_of_the_site(hub: Hub, tmp_path: Path) -> None:
    absent = tmp_path / "sent.jsonl"
    result = CliRunner().invoke(app, ["verify", str(hub.folder), "--site", "riverside", "--sent", str(absent)])
    assert "sent.jsonl: is not there" in str(result.exception)


def test_a_record_is_not_compared_with_the_updates_of_no_site(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["verify", str(tmp_path), "--sent", str(tmp_path / "sent.jsonl")])
    assert isinstance(result.exception, Problem)
    assert "--site" in result.exception.remedy
