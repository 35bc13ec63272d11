"""Checking the hub's history against what was signed: by sites for it, and by it for sites."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from polyward_server.ledger import Ledger
from polyward_server.records import State
from polyward_server.statements import read_statements
from polyward_shared.chain import GENESIS, read_chain
from polyward_shared.checkpoints import Checkpoint, Receipt, head_after
from polyward_shared.pki import is_signed, is_signed_by_server, public_from_pem, read_certificate
from polyward_shared.problems import Problem

REWRITTEN = "keep everything as it is, and compare the ledger with a backup and with what sites hold"


def check_checkpoints(ledger: Ledger) -> int:
    """How many statements of sites are sound and agree with the history. Raises `Problem` at the first other."""
    count = 0
    for _, problem in examined_checkpoints(ledger):
        if problem is not None:
            raise problem
        count += 1
    return count


def examined_checkpoints(ledger: Ledger) -> Iterator[tuple[Receipt, Problem | None]]:
    """Every statement of a site, by site and shortest first, with what is wrong with it.

    Each must bear its site's signature; of one site, none may contradict another; and the hub's history must still
    begin as the hub said when it answered.
    """
    heads = _heads(ledger)
    seen: dict[tuple[str, int], str] = {}
    for receipt, signature, public_key in read_statements(ledger):
        try:
            _check_statement(receipt, signature, public_key, seen)
            _check_head(heads, receipt, _where(receipt))
        except Problem as problem:
            yield receipt, problem
        else:
            yield receipt, None


def check_record(ledger: Ledger, site: str, sent: Path) -> int:
    """How many updates that this hub accepted from a site are in the site's own record. Raises `Problem`."""
    if not sent.is_file():  # an absent chain is an empty one, which would put the blame on the site
        raise Problem(str(sent), "is not there", remedy="name a copy of state/gate/sent.jsonl of the site")
    entries = list(read_chain(sent))
    hashes = [GENESIS, *(entry["hash"] for entry in entries)]
    for receipt, _, _ in read_statements(ledger):
        if receipt.site == site and (receipt.count >= len(hashes) or hashes[receipt.count] != receipt.hash):
            raise Problem(str(sent), f"is not the record that {site} signed on {receipt.at}", remedy="ask the site")
    told = {(entry.get("study"), entry.get("round"), entry.get("sha256")) for entry in entries}
    accepted = [
        (study, number, given.sha256)
        for study in ledger.studies_in(*State)
        for number, all_given in ledger.contributions(study).items()
        for given in all_given
        if given.site == site
    ]
    for study, number, digest in accepted:
        if (study, number, digest) not in told:
            raise Problem(
                str(sent),
                f"does not hold the update of round {number} of study {study[:12]} that this hub accepted from {site}",
                remedy="one of the two records is wrong; keep both",
            )
    return len(accepted)


def check_receipts(ledger: Ledger, authority: Path, receipts: Path) -> int:
    """How many receipts in a site's file are ours and agree with the history. Raises `Problem`."""
    heads, count = _heads(ledger), 0
    for number, (receipt, signed) in enumerate(_receipts(authority, receipts), start=1):
        where = f"{receipts}, line {number}"
        if not signed:
            raise Problem(where, "does not bear this hub's signature", remedy="ask the site for the file as it is")
        _check_head(heads, receipt, where)
        count += 1
    return count


def _receipts(authority: Path, path: Path) -> Iterator[tuple[Receipt, bool]]:
    ours = read_certificate(authority)
    for line in path.read_bytes().splitlines():
        try:
            data = json.loads(line)
            receipt = Receipt.model_validate(data["receipt"])
            certificate, signature = str(data["certificate"]).encode(), bytes.fromhex(data["signature"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Problem(str(path), "holds a line that is no receipt of this hub", remedy="ask the site") from None
        yield receipt, is_signed_by_server(certificate, ours, receipt.statement(), signature)


def _check_statement(receipt: Receipt, signature: bytes, public_key: str, seen: dict[tuple[str, int], str]) -> None:
    stated = Checkpoint(**receipt.model_dump(include={"site", "count", "hash", "at"}))
    try:
        key = public_from_pem(public_key.encode())
    except ValueError:
        raise Problem(_where(receipt), "stands beside what is no key", remedy=REWRITTEN) from None
    if not is_signed(key, stated.statement(), signature):
        raise Problem(_where(receipt), "does not bear the site's signature", remedy=REWRITTEN)
    if seen.setdefault((receipt.site, receipt.count), receipt.hash) != receipt.hash:
        raise Problem(_where(receipt), "contradicts an earlier one: the site rewrote its record", remedy="ask the site")


def _where(receipt: Receipt) -> str:
    return f"the checkpoint of {receipt.site} at {receipt.at}"


def _heads(ledger: Ledger) -> list[str]:
    """The head of the history after each number of rounds."""
    heads = [GENESIS]
    for row in ledger.history():
        heads.append(head_after([row], heads[-1]))
    return heads


def _check_head(heads: list[str], receipt: Receipt, where: str) -> None:
    if receipt.rounds >= len(heads) or heads[receipt.rounds] != receipt.head:
        raise Problem(
            where,
            f"says that {receipt.rounds} rounds were committed, with another history than this ledger has",
            remedy=REWRITTEN,
        )
