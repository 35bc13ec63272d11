"""The figures for Prometheus, read back by its own parser."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from polyward_server.contacts import Contact, keep_contacts
from polyward_server.ledger import Ledger
from polyward_server.records import Contribution, Event, Round
from polyward_server.roster import Roster
from polyward_server.views.health import metrics_text
from polyward_shared import pki
from tests.support.toy_trainer import toy_study

STUDY = toy_study(id="toy")
DIGEST = STUDY.digest()


def figures(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_figure_can_be_worked_out_by_hand(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    roster = Roster(ledger)
    ledger.queue(STUDY)
    for number in range(3):
        state = f"{number:064x}"
        given = [Contribution(site, 1, 10, 1.0, state, 100, 40, 2.0) for site in ("north", "south")[:number]]
        ledger.commit_round(DIGEST, Round(number, state, state, 1.0), given)
    for code in ("paused", "paused", "policy", "Jane Doe"):
        ledger.note(Event(DIGEST, 1, "south", "refused", code))
    key, (authority_key, authority) = pki.new_key(), pki.new_authority("x")
    for site in ("north", "south"):
        roster.register(site, pki.public_key_pem(key.public_key() if site == "north" else pki.new_key().public_key()))
    roster.issue(
        "north",
        pki.new_node_certificate("north", key.public_key(), pki.AUTHORITY_LIFETIME, authority_key, authority),
        holder="",
    )
    keep_contacts(ledger, Contact("north", True, time.time() - 5))
    found = figures(metrics_text(ledger, roster))
    study = {("study", "toy"), ("digest", DIGEST[:12])}

    def of(name: str, *labels: tuple[str, str]) -> float:
        return found[name, frozenset(labels)]

    assert of("polyward_studies", ("state", "queued")) == 1
    assert of("polyward_studies", ("state", "failed")) == 0
    assert of("polyward_study_round", *study) == 2
    assert 0 <= of("polyward_study_since_commit_seconds", *study) < 30
    assert of("polyward_study_approvals", *study) == 0
    assert of("polyward_contributions_total", *study, ("site", "north")) == 2
    assert of("polyward_contributions_total", *study, ("site", "south")) == 1
    assert of("polyward_bytes_total", *study, ("site", "north"), ("way", "up")) == 200
    assert of("polyward_bytes_total", *study, ("site", "south"), ("way", "down")) == 40
    assert of("polyward_refusals_total", *study, ("site", "south"), ("code", "paused")) == 2
    assert of("polyward_events_total", ("what", "refused")) == 4
    assert of("polyward_site_connected", ("site", "north")) == 1
    assert of("polyward_site_connected", ("site", "south")) == 0
    assert of("polyward_site_silent_seconds", ("site", "north")) == pytest.approx(5, abs=2)
    assert of("polyward_site_certificate_days", ("site", "north")) == pytest.approx(3650, abs=10)
    assert "Jane" not in metrics_text(ledger, roster), "no code of ours"
    ledger.close()


def test_names_cannot_break_the_text(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    roster = Roster(ledger)
    odd = 'a"} 1\npolyward_studies{state="failed'
    roster.register(odd, pki.public_key_pem(pki.new_key().public_key()))
    found = figures(metrics_text(ledger, roster))
    assert found["polyward_site_connected", frozenset({("site", odd)})] == 0
    assert found["polyward_studies", frozenset({("state", "failed")})] == 0
    ledger.close()
