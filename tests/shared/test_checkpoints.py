"""Statements that are signed: one spelling each, and none that serves for another."""

from __future__ import annotations

import hashlib

from polyward_shared.chain import GENESIS
from polyward_shared.checkpoints import Checkpoint, Receipt, head_after

SAID = {"site": "north", "count": 3, "hash": "ab" * 32, "at": "2026-01-02T03:04:05+00:00"}


def test_every_word_of_a_statement_counts_and_a_receipt_is_no_checkpoint() -> None:
    checkpoint = Checkpoint(**SAID)
    statements = {checkpoint.statement(), Receipt(**SAID, rounds=0, head="").statement()}
    for key, other in {"site": "south", "count": 4, "hash": "cd" * 32, "at": "now"}.items():
        statements.add(Checkpoint(**{**SAID, key: other}).statement())
    assert len(statements) == 6
    assert checkpoint.statement() == Checkpoint(**dict(reversed(SAID.items()))).statement()


def test_a_head_is_a_chain_over_the_rounds() -> None:
    assert head_after([]) == GENESIS
    by_hand = hashlib.sha256(f'["{GENESIS}","study","1"]'.encode()).hexdigest()
    assert head_after([("study", "1")]) == by_hand
    assert head_after([("study", "1"), ("study", "2")]) == head_after([("study", "2")], by_hand)
    assert head_after([("study", "12")]) != head_after([("study1", "2")])
