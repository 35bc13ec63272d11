"""The control plane over real TLS: what a hub learns of a node, what a node obeys, and what both have signed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from polyward_client.decisions import Verdict, decide
from polyward_client.gate.control import ControlLink
from polyward_client.gate.receipts import read_receipts, verify
from polyward_client.port.interface import Progress
from polyward_client.site import Site, read_site
from polyward_server.commands import order, order_state
from polyward_server.contacts import read_contacts
from polyward_server.control.connections import Connection
from polyward_server.control.service import Service
from polyward_server.enrolment import Authority
from polyward_server.history import check_checkpoints, check_receipts, check_record
from polyward_server.records import Contribution, Member, Round
from polyward_server.told import Span, read_spans
from polyward_shared import pki
from polyward_shared.chain import Chain, read_chain
from polyward_shared.problems import Code, Problem
from tests.support.real_hub import RealHub, real_hub, until
from tests.support.toy_trainer import toy_study

STUDY = toy_study()
DIGEST = STUDY.digest()
LATER = toy_study(id="later")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    with real_hub(tmp_path_factory.mktemp("control")) as made:
        made.ledger.queue(STUDY)
        made.ledger.set_state(DIGEST, "stopped")  # nobody is to run it here
        yield made


def status(hub: RealHub, site: Site) -> dict[str, object]:
    contact = read_contacts(hub.ledger)[site.name]
    return dict(contact.status)


def test_the_hub_learns_numbers_and_words_and_no_loss(hub: RealHub, tmp_path: Path) -> None:
    site = hub.enrolled("tells", tmp_path)
    site.port.mkdir(parents=True)
    site.socket.touch()
    with hub.linked(site) as link:
        until(lambda: status(hub, site).get("state") == "idle")
        assert read_contacts(hub.ledger)["tells"].progressed is None
        link.courses.begins(DIGEST, 3)
        link.courses.progress(Progress(phase="Jane Doe, 1950", epoch=2, epochs=8, loss=0.25))
        link.refused(Code.POLICY)
        until(lambda: status(hub, site).get("refusals"))
        said = status(hub, site)
        assert said["state"] == "working"
        assert said["work"] == {"study": DIGEST, "round": 3, "phase": "training", "done": 2, "of": 8}
        assert said["refusals"] == {"policy": 1}
        contact = read_contacts(hub.ledger)["tells"]
        assert contact.progressed is not None
        assert time.time() - contact.progressed < 5
        assert contact.software.startswith("polyward ")
        assert "Jane" not in json.dumps(said)
        assert "0.25" not in json.dumps(said["work"])
        site.paused.touch()
        until(lambda: status(hub, site).get("state") == "paused")
        site.paused.unlink()
        site.socket.unlink()
        until(lambda: status(hub, site).get("state") == "trainer_away")
    until(lambda: not hub.is_here("tells"))
    [line] = [entry for entry in read_chain(site.sent) if entry["what"] == "control"]
    assert line["detail"]["hello"] == 1
    assert line["detail"]["status"] >= 4
    assert line["messages"] == sum(line["detail"].values())


def test_a_command_is_obeyed_if_the_policy_allows_it(hub: RealHub, tmp_path: Path) -> None:
    site = hub.enrolled("obeys", tmp_path)
    text = site.path.read_text() + '\n[policy]\ncommands = ["cancel"]\n'
    site.path.write_text(text)
    heard: list[str] = []
    ordered = {
        order(hub.ledger, "obeys", "wake"): "declined",
        order(hub.ledger, "obeys", "cancel", DIGEST): "obeyed",
        order(hub.ledger, "obeys", "cancel", "f" * 64): "obeyed",
    }
    with hub.linked(
        read_site(site.path), cancel=lambda: heard.append("cancel"), wake=lambda: heard.append("wake")
    ) as link:
        link.courses.begins(DIGEST, 1)
        number = order(hub.ledger, "obeys", "cancel", DIGEST)
        until(lambda: order_state(hub.ledger, number) == "obeyed")
        assert {each: order_state(hub.ledger, each) for each in ordered} == ordered
        site.path.write_text(text.replace('["cancel"]', "[]"))  # counts at once
        number = order(hub.ledger, "obeys", "cancel", DIGEST)
        until(lambda: order_state(hub.ledger, number) not in {"waiting", "sent"})
        assert order_state(hub.ledger, number) == "declined"
    assert set(heard) == {"cancel"}, "a command about another study touches no work, a forbidden one nothing"


def test_who_withdraws_is_asked_no_more(hub: RealHub, tmp_path: Path) -> None:
    site = hub.enrolled("leaves", tmp_path)
    hub.ledger.join(DIGEST, Member("leaves", 10, {"mask": 10}, "{}", "", agrees=True))
    with hub.linked(site):
        decide(site.approved, Verdict.WITHDRAWN, study=DIGEST, id="toy")
        until(lambda: not hub.ledger.members(DIGEST)["leaves"].agrees)
    until(lambda: not hub.is_here("leaves"))
    with hub.linked(site):  # said again on every connection, noted once
        until(lambda: status(hub, site))
    left = [event.site for _, event in hub.ledger.events_after(0, DIGEST) if event.what == "withdrawn"]
    assert left == ["leaves"]


def approved(hub: RealHub, site: str) -> set[str]:
    """Which of the two studies the hub believes the site to approve."""
    return {each for each in (DIGEST, LATER.digest()) if site in hub.ledger.approvals(each)}


def test_the_hub_knows_who_approves_which_of_its_studies(hub: RealHub, tmp_path: Path) -> None:
    site = hub.enrolled("approves", tmp_path)
    decide(site.approved, Verdict.APPROVED, study=DIGEST)
    decide(site.approved, Verdict.APPROVED, study=LATER.digest())
    decide(site.approved, Verdict.APPROVED, study="f" * 64)  # of no study of this hub
    with hub.linked(site):
        until(lambda: approved(hub, "approves") == {DIGEST})
        hub.ledger.queue(LATER)  # which the site has approved before
        hub.ledger.set_state(LATER.digest(), "stopped")
        until(lambda: approved(hub, "approves") == {DIGEST, LATER.digest()})
        decide(site.approved, Verdict.REJECTED, study=DIGEST)
        until(lambda: approved(hub, "approves") == {LATER.digest()})
    until(lambda: not hub.is_here("approves"))
    with hub.linked(site):  # said again, noted once
        decide(site.approved, Verdict.PAUSED)
        time.sleep(1)
    assert approved(hub, "approves") == {LATER.digest()}
    assert hub.ledger.approvals("f" * 64) == {}
    events = [each.event for each in hub.ledger.noted() if each.event.what in {"approved", "unapproved"}]
    assert [(e.study, e.site, e.what) for e in events] == [
        (DIGEST, "approves", "approved"),
        (LATER.digest(), "approves", "approved"),
        (DIGEST, "approves", "unapproved"),
    ]
    hub.roster.revoke("approves")
    assert approved(hub, "approves") == set(), "a site that was put out approves nothing"


def test_a_site_that_changes_its_mind_without_end_does_not_fill_the_record(hub: RealHub, tmp_path: Path) -> None:
    hub.enrolled("fickle", tmp_path)
    issued = hub.roster.newest("fickle")
    assert issued is not None
    service = Service(hub.hub, hub.ledger, hub.roster, Authority(hub.hub))
    connection = Connection("fickle", int(issued.serial, 16))
    service._connections.open(connection)
    for number in range(20):
        connection.approved = frozenset() if number % 2 else frozenset({DIGEST})
        service.look_around()
    assert [each.event.what for each in hub.ledger.noted() if each.event.site == "fickle"][-1] == "approved"
    assert (
        len([each for each in hub.ledger.noted() if each.event.site == "fickle" and "approved" in each.event.what]) == 1
    )
    service._connections.close(connection)


def test_a_site_that_was_put_out_approves_nothing_more(hub: RealHub, tmp_path: Path) -> None:
    hub.enrolled("out", tmp_path)
    issued = hub.roster.newest("out")
    assert issued is not None
    service = Service(hub.hub, hub.ledger, hub.roster, Authority(hub.hub))
    connection = Connection("out", int(issued.serial, 16))
    service._connections.open(connection)
    hub.roster.revoke("out")
    connection.approved = frozenset({DIGEST})
    service.look_around()
    assert (connection.mail.get_nowait(), approved(hub, "out")) == (None, set())
    service._connections.close(connection)


def test_the_hub_knows_how_a_round_went(hub: RealHub, tmp_path: Path) -> None:
    site = hub.enrolled("works", tmp_path)
    site.port.mkdir(parents=True)
    site.socket.touch()
    began = time.time()

    def course_of(name: str) -> dict[int, list[Span]]:
        return {n: sites[name] for n, sites in read_spans(hub.ledger, DIGEST).items() if name in sites}

    with hub.linked(site) as link:
        courses = link.courses
        link.courses.arrives()
        until(lambda: status(hub, site).get("work", {}).get("phase") == "fetching")  # type: ignore[attr-defined]
        assert status(hub, site)["state"] == "working", "it is told before the order says of which study it is"
        link.courses.begins(DIGEST, 0)
        link.courses.progress(Progress(phase="together"))
        until(lambda: course_of("works"))
        link.courses.sends()
        link.courses.ends()
        link.courses.begins("f" * 64, 1)  # of no study of this hub
        link.courses.ends()
        link.courses.begins(DIGEST, 1)  # short, and just before the connection ends
        link.courses.ends()
        until(lambda: set(course_of("works")) == {0, 1})
    phases = course_of("works")[0]
    assert [each.phase for each in phases] == ["fetching", "training", "sending"]
    assert began - 0.1 < phases[0].began < phases[1].began <= phases[2].began < time.time()
    assert phases[1].began == pytest.approx(phases[0].began + phases[0].seconds, abs=0.002)
    heard = read_contacts(hub.ledger)["works"].at
    address = f"127.0.0.1:{hub.hub.file.control_port}"
    link = ControlLink(site, address, Chain(site.sent), cancel=lambda: None, wake=lambda: None)
    link.courses = courses
    link.start()
    until(lambda: read_contacts(hub.ledger)["works"].at > heard + 1)
    link.close()  # all was told again, and kept once
    assert {number: [each.phase for each in spans] for number, spans in course_of("works").items()} == {
        0: ["fetching", "training", "sending"],
        1: ["fetching"],
    }
    assert read_spans(hub.ledger, "f" * 64) == {}
    assert set(read_spans(hub.ledger, DIGEST, first=1, last=1)) == {1}


def test_a_certificate_renews_itself_and_the_old_connection_makes_room(tmp_path: Path) -> None:
    with real_hub(tmp_path, certificate_days=8 / 86400) as hub:
        site = hub.enrolled("renews", tmp_path)
        first = pki.read_certificate(site.certificate)
        with hub.linked(site) as link:
            until(lambda: pki.read_certificate(site.certificate) != first)
            second = pki.read_certificate(site.certificate)
            assert second.public_key() == first.public_key()
            until(lambda: datetime.now(UTC) > first.not_valid_after_utc)
            until(lambda: hub.is_here("renews") and link.connected)
            assert "renews" in hub.roster.keys()  # noqa: SIM118  a method of the roster
        # a node that is away longer than its certificate lives is out until it is invited again
        until(lambda: "renews" not in hub.roster.keys())  # noqa: SIM118


def test_it_survives_a_hub_that_starts_anew(tmp_path: Path) -> None:
    with real_hub(tmp_path) as hub:
        site = hub.enrolled("stays", tmp_path)
        with hub.linked(site):
            hub.stop()
            hub.start()
            until(lambda: hub.is_here("stays"))
            assert time.time() - read_contacts(hub.ledger)["stays"].at < 5


# --- what both have signed


def contributed(hub: RealHub, site: Site, chain: Chain, number: int) -> None:
    """One committed round with an update of the site, which is in the site's record too."""
    sha256 = f"{number:064x}"
    chain.append(
        {"at": "now", "what": "report", "kind": "train.round", "study": DIGEST, "round": number, "sha256": sha256}
    )
    given = Contribution(site.name, 1, 10, 1.0, sha256, 36, 36, 1.0)
    hub.ledger.commit_round(DIGEST, Round(number, f"{number:064x}", f"{number:064x}", 0.0), [given] if number else [])


def test_neither_side_can_rewrite_its_history_alone(tmp_path: Path) -> None:
    with real_hub(tmp_path) as hub:
        hub.ledger.queue(STUDY)
        hub.ledger.set_state(DIGEST, "stopped")
        site = hub.enrolled("signs", tmp_path)
        chain = Chain(site.sent)
        for number in range(3):
            contributed(hub, site, chain, number)
        with hub.linked(site):
            until(site.checkpoints.exists)
        with hub.linked(site):  # the line about the first connection is signed in the second
            until(lambda: len(list(read_receipts(site.checkpoints))) == 2)
        lines, receipts = verify(site)
        assert (lines, receipts) == (5, 2)
        assert check_checkpoints(hub.ledger) == 2
        assert check_record(hub.ledger, "signs", site.sent) == 2
        assert check_receipts(hub.ledger, hub.hub.ca, site.checkpoints) == 2
        the_site_rewrites(hub, site, tmp_path)
        the_hub_rewrites(hub, site)


def the_site_rewrites(hub: RealHub, site: Site, folder: Path) -> None:
    whole = site.sent.read_bytes()
    cut = b"".join(whole.splitlines(keepends=True)[:-3])
    anew = Chain(folder / "anew.jsonl")
    for entry in read_chain(site.sent):
        fields = {key: value for key, value in entry.items() if key not in {"seq", "prev", "hash"}}
        anew.append(fields | ({"sha256": "0" * 64} if entry["seq"] == 2 else {}))
    for forged, found in ((cut, "it ends before that"), (anew.path.read_bytes(), "it has another line there")):
        site.sent.write_bytes(forged)
        assert list(read_chain(site.sent)), "the chain alone does not show it"
        with pytest.raises(Problem, match=found):
            verify(site)
        with pytest.raises(Problem, match="is not the record that signs signed"):
            check_record(hub.ledger, "signs", site.sent)
    # a checkpoint of as many lines as an earlier one tells the hub
    site.sent.write_bytes(b"".join(anew.path.read_bytes().splitlines(keepends=True)[:4]))
    with hub.linked(site):
        until(lambda: any(event.what == "rewritten" for _, event in hub.ledger.events_after(0, "")))
    with pytest.raises(Problem, match="contradicts an earlier one"):
        check_checkpoints(hub.ledger)
    site.sent.write_bytes(whole)


def the_hub_rewrites(hub: RealHub, site: Site) -> None:
    with hub.ledger.engine.begin() as db:
        db.exec_driver_sql("UPDATE contributions SET sha256 = ? WHERE round = 1", ("e" * 64,))
    with pytest.raises(Problem, match="with another history than this ledger has"):
        check_receipts(hub.ledger, hub.hub.ca, site.checkpoints)


def test_a_receipt_that_is_not_the_hubs_is_not_kept(hub: RealHub, tmp_path: Path) -> None:
    site = hub.enrolled("doubts", tmp_path)
    Chain(site.sent).append({"what": "report"})
    with hub.linked(site):
        until(site.checkpoints.exists)
    text = site.checkpoints.read_text()
    count = json.loads(text.splitlines()[0])["receipt"]["count"]
    site.checkpoints.write_text(text.replace(f'"count":{count}', f'"count":{count - 1}'))
    with pytest.raises(Problem, match="was not signed by the hub"):
        verify(site)
