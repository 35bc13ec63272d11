"""The file of the hub's receipts: a line that was cut off by a crash costs that receipt and no other."""

from __future__ import annotations

from pathlib import Path

from polyward_client.gate.control import ControlLink
from polyward_client.gate.receipts import Kept, read_receipts
from polyward_shared.chain import Chain
from polyward_shared.checkpoints import Receipt
from tests.support.toy_trainer import toy_site, toy_study


def test_half_a_receipt_is_dropped_before_others_follow(tmp_path: Path) -> None:
    site = toy_site(tmp_path, "a", toy_study(), ("mask",))
    site.gate.mkdir(parents=True, exist_ok=True)
    receipt = Receipt(site="a", count=1, hash="a" * 64, at="2026-01-01T00:00:00+00:00", rounds=0, head="0" * 64)
    line = Kept(receipt=receipt, signature="00", certificate="").model_dump_json().encode() + b"\n"
    site.checkpoints.write_bytes(line + line[:40])
    ControlLink(site, "127.0.0.1:1", Chain(site.sent), cancel=lambda: None, wake=lambda: None)
    with site.checkpoints.open("ab") as file:
        file.write(line)
    assert [kept.receipt for kept in read_receipts(site.checkpoints)] == [receipt, receipt]
