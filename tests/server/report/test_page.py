"""The report says what the ledger says, and nothing else."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from polyward_server.gains import gains
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import Event, Member, State
from polyward_server.report.writing import page
from polyward_server.roster import Roster
from polyward_server.statements import keep_statement
from polyward_server.tables import approvals
from polyward_shared import pki
from polyward_shared.checkpoints import Checkpoint, Receipt, head_after
from polyward_shared.messages import Metric, Stage
from tests.server.report.paging import Page, facts_of, page_of
from tests.support.story import FIGURE, HOLDS, SITES, tell

DASH = "\N{EN DASH}"
ARROWS = {"mask": "Dice ↑", "grade": "AUROC ↑", "size": "mean absolute error ↓"}


def test_every_figure_stands_in_the_appendix(told: Hub) -> None:
    facts, read = facts_of(told), page_of(told)
    ledger = Ledger(told.ledger)
    figures = ledger.metrics(facts.digest)
    ledger.close()
    for number, site, metric in figures:
        model = "federated" if metric.stage is Stage.TRAINED else "alone"
        table = read.table(f"{metric.task}, {ARROWS[metric.task]}, {model}")
        cell = table.cell(str(number), facts.names.of(site))
        assert metric.name == FIGURE[metric.task]
        assert cell == f"{metric.value:.3f} ({metric.low:.3f} to {metric.high:.3f})"
    shown = [cell for table in read.tables for row in table.rows for cell in row if re.match(r"\d+\.\d+ \(", cell)]
    assert len(shown) == len(figures) + 2 * 8  # and both models' last ones of eight pairs in the results


def test_what_was_not_measured_is_a_dash(told: Hub) -> None:
    facts, read = facts_of(told), page_of(told)
    away = facts.names.of("uppsala")
    for model in ("federated", "alone"):
        assert read.table(f"grade, {ARROWS['grade']}, {model}").cell("5", away) == DASH
    assert read.table("Training labels").cell(away, "mask") == DASH


def test_gains_are_those_of_the_ledger(told: Hub) -> None:
    facts, read = facts_of(told, named=True), page_of(told, named=True)
    ledger = Ledger(told.ledger)
    known = list(gains(ledger, facts.study))
    ledger.close()
    assert len(known) == sum(map(len, HOLDS.values()))
    results = [table for table in read.tables if table.caption.startswith("Latest figures")]
    for gain in known:
        [table] = [each for each, task in zip(results, facts.study.tasks, strict=True) if task == gain.federated.task]
        assert table.cell(gain.site, "Gain") == f"{gain.gain:+.3f}"
        assert table.cell(gain.site, "Federated").startswith(f"{gain.federated.value:.3f} (")
        assert table.cell(gain.site, "Kept") == DASH
    better = sum(gain.gain > 0 for gain in known)
    assert f"better than the one trained alone in {better} of {len(known)} pairs" in read.text
    assert "no test was made" in read.text


def test_each_receipt_holds_the_site_s_own_updates(told: Hub) -> None:
    facts, read = facts_of(told), page_of(told)
    ledger = Ledger(told.ledger)
    given = ledger.contributions(facts.digest)
    ledger.close()
    for site in SITES:
        table = read.table(f"Updates of {facts.names.of(site)} that the hub accepted")
        own = {
            str(number): each.sha256 for number, all_given in given.items() for each in all_given if each.site == site
        }
        assert {row[0]: row[2] for row in table.rows[1:]} == own
    rounds = "took part in 1-4, 6-9, 11-12; refused -; missed 5, 10"
    assert rounds.replace("-", DASH) in read.text


def test_numbers_are_steps_unless_exact_ones_are_asked_for(told: Hub) -> None:
    names = facts_of(told).names
    assert page_of(told).table("Training labels").cell(names.of("bergen"), "Images") == "200-499"
    assert page_of(told, exact=True).table("Training labels").cell(names.of("bergen"), "Images") == "412"
    steps = Page(page(facts_of(told))).text
    assert not re.search(r"(?<![.\w])(412|1290|206|645)\b", steps)


def test_sites_are_letters_unless_names_are_asked_for(brief: Hub) -> None:
    ledger = Ledger(brief.ledger)
    [digest] = ledger.studies_in(*State)
    Roster(ledger).register("malmo", pki.public_key_pem(pki.new_key().public_key()))
    ledger.set_state(digest, State.WAITING, "away: bergen, malmo; quorum 2", actor="ada")
    ledger.note(Event(digest, 3, "leiden", "outlier", "other than bergen"))
    ledger.close()
    text = page(facts_of(brief))
    assert not re.search(r"bergen|leiden|malmo|\bada\b", text)
    assert re.search(r"waiting: away: site [AB], another site; quorum 2", Page(text).text)
    named = page_of(brief, named=True).text
    assert "away: bergen, malmo; quorum 2" in named
    assert "other than bergen" in named
    assert page_of(brief, named=True).table("States").rows[-1][3] == "ada"


def test_letters_stay_while_a_study_goes_on(tmp_path: Path, told: Hub) -> None:
    early = facts_of(tell(tmp_path / "early", rounds=3))
    assert early.names.labels == facts_of(told).names.labels


def test_names_are_text_whatever_they_say(tmp_path: Path) -> None:
    hostile = '"><img src=x onerror=alert(1)>'
    hub = tell(tmp_path / "hub", rounds=2, sites={hostile: 40, "leiden": 90})
    ledger = Ledger(hub.ledger)
    [digest] = ledger.studies_in(*State)
    ledger.note(Event(digest, 1, hostile, "refused", "</style><script>alert(2)</script>"))
    ledger.close()
    read = page_of(hub, named=True)
    assert not read.tags & {"img", "script"}
    assert read.table("Training labels").rows[1][0] == hostile
    assert "</style><script>alert(2)</script>" in read.text


def test_nothing_is_fetched_and_nothing_runs(told: Hub) -> None:
    text = page(facts_of(told))
    read = Page(text)
    assert all(link.startswith("#") and link[1:] in read.ids for link in read.links)
    assert not read.tags & {"script", "img", "link", "iframe", "object", "base"}
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_plots_and_tables_can_be_read_aloud(told: Hub) -> None:
    text = page(facts_of(told))
    read = Page(text)
    assert len(set(read.ids)) == len(read.ids)
    for svg in re.findall(r"<svg[^>]*>", text):
        [labels] = re.findall(r'role="img" aria-labelledby="([^"]*)"', svg)
        assert set(labels.split()) <= set(read.ids)
    assert all("scope=" in th for th in re.findall(r"<th\b[^>]*>", text))
    assert "site A: took part in 12 of 13 rounds, refused 0, missed 0" in read.text


def test_the_same_ledger_gives_the_same_bytes(told: Hub) -> None:
    assert page(facts_of(told)) == page(facts_of(told))


def test_a_report_of_a_running_study_says_so(brief: Hub) -> None:
    assert "Interim report: the study has not ended" in page(facts_of(brief))
    ledger = Ledger(brief.ledger)
    [digest] = ledger.studies_in(*State)
    ledger.set_state(digest, State.FINISHED)
    ledger.close()
    assert "Interim" not in page(facts_of(brief))


def test_final_figures_take_the_place_of_a_round_s(brief: Hub) -> None:
    ledger = Ledger(brief.ledger)
    [digest] = ledger.studies_in(*State)
    both = [
        Metric("mask", "test", Stage.FINAL, "dice", 0.9, 60, 0.85, 0.95),
        Metric("mask", "test", Stage.ALONE_FINAL, "dice", 0.7, 60, 0.6, 0.8),
    ]
    ledger.conclude(Event(digest, 2, "bergen", "finished"), {"mask": "federated"}, both)
    one = [Metric("mask", "test", Stage.FINAL, "dice", 0.8, 30)]
    ledger.conclude(Event(digest, 2, "leiden", "finished"), {}, one)
    ledger.close()
    read = page_of(brief, named=True)
    table = next(each for each in read.tables if each.rows[0][3:4] == ["Federated"] and "apart" in each.rows[1])
    assert table.rows[1] == [
        *("bergen", "end", "50-99", "0.900 (0.850 to 0.950)", "0.700 (0.600 to 0.800)", "+0.200", "apart", "federated")
    ]
    assert table.rows[2][:2] == ["leiden", "round 2"]  # its final figure has none beside it


def test_what_a_site_signed_is_checked(brief: Hub) -> None:
    key, ledger = pki.new_key(), Ledger(brief.ledger)
    at = "2026-11-21T09:00:00.000+00:00"
    stated = Checkpoint(site="bergen", count=7, hash="c" * 64, at=at)
    head = head_after(ledger.history())
    receipt = Receipt(**stated.model_dump(), rounds=len(ledger.history()), head=head)
    keep_statement(ledger, receipt, pki.signed(key, stated.statement()), pki.public_key_pem(key.public_key()))
    assert "7 lines of its own record, signed 2026-11-21 09:00 UTC" in page_of(brief).text
    assert "signature verified" in page_of(brief).text
    assert "1 statements of sites, each with its site's signature" in page_of(brief).text
    forged = Receipt(site="leiden", count=3, hash="d" * 64, at=at, rounds=0, head="")
    keep_statement(ledger, forged, pki.signed(key, b"other"), pki.public_key_pem(key.public_key()))
    ledger.close()
    assert "signature not the site's" in page_of(brief).text
    assert "What sites have signed does not agree" in page_of(brief).text
    assert "leiden" not in page_of(brief).text


def test_a_changed_record_is_told(brief: Hub) -> None:
    assert "every hash verified" in page_of(brief).text
    with closing(sqlite3.connect(brief.folder / "ledger.db")) as db:
        db.execute("DROP TRIGGER events_refuse_update")
        db.execute("UPDATE events SET detail = 'nothing happened' WHERE id = 3")
        db.commit()
    text = page_of(brief).text
    assert "The chain of events is broken. event 3 of the ledger" in text
    assert "every hash verified" not in text


def test_a_site_that_withdrew(brief: Hub) -> None:
    ledger = Ledger(brief.ledger)
    [digest] = ledger.studies_in(*State)
    ledger.leave(digest, "leiden")
    with ledger.engine.begin() as db:
        db.execute(sa.delete(approvals).where(approvals.c.site == "leiden"))
    ledger.close()
    read, label = page_of(brief), facts_of(brief).names.of("leiden")
    assert read.table("Training labels").cell(label, "Takes part").startswith("withdrew 20")
    assert "no approval of this study is in force" in read.text


def test_a_study_before_its_first_round(tmp_path: Path) -> None:
    hub = tell(tmp_path / "hub", rounds=0)
    read = page_of(hub)
    assert "No site has sent an update yet." in read.text
    assert "no gain can be told" in read.text


def test_a_member_whose_labels_are_few(brief: Hub) -> None:
    ledger = Ledger(brief.ledger)
    [digest] = ledger.studies_in(*State)
    old = ledger.members(digest)["leiden"]
    ledger.join(digest, Member("leiden", 7, {"mask": 7, "size": 5}, old.schema, old.software, True))
    ledger.close()
    assert page_of(brief).table("Training labels").cell(facts_of(brief).names.of("leiden"), "size") == "1-9"
