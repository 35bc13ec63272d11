"""The hub's signed receipts, and what they prove: that the record of everything sent is the one that the hub saw."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from pydantic import ValidationError

from polyward_client.site import Site
from polyward_shared.chain import GENESIS, append_line, read_chain
from polyward_shared.checkpoints import Receipt
from polyward_shared.pki import is_signed_by_server
from polyward_shared.problems import Problem
from polyward_shared.protos import control_pb2 as pb
from polyward_shared.reading import Frozen

log = logging.getLogger(__name__)


class Kept(Frozen):
    """One line of `checkpoints.jsonl`."""

    receipt: Receipt
    signature: str  # hexadecimal
    certificate: str  # PEM


def keep_receipt(site: Site, said: pb.Receipt) -> bool:
    """Keeps a receipt whose signature is the hub's; any other is only logged. Whether it was kept."""
    try:
        receipt = Receipt(
            site=site.name, count=said.count, hash=said.hash, at=said.at, rounds=said.rounds, head=said.head
        )
        kept = Kept(receipt=receipt, signature=said.signature.hex(), certificate=said.certificate.decode("ascii"))
    except (ValidationError, UnicodeDecodeError):
        log.error("the hub sent a receipt that cannot be read")
        return False
    if not is_of_hub(kept, site.ca):
        log.error("the hub sent a receipt with a signature that is not its own")
        return False
    descriptor = os.open(site.checkpoints, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        append_line(descriptor, kept.model_dump_json().encode() + b"\n")
    finally:
        os.close(descriptor)
    return True


def is_of_hub(kept: Kept, authority: Path) -> bool:
    """Whether a certificate of this authority's (a PEM file) vouches for the signature."""
    try:
        hub = x509.load_pem_x509_certificate(authority.read_bytes())
        signature = bytes.fromhex(kept.signature)
    except ValueError:
        return False
    return is_signed_by_server(kept.certificate.encode(), hub, kept.receipt.statement(), signature)


def read_receipts(path: Path) -> Iterator[Kept]:
    """The receipts that were kept. Raises `Problem` for a line that is none; one cut off at the end is left out."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        try:
            yield Kept.model_validate_json(line)
        except ValidationError:
            if not line.endswith(b"\n"):
                return
            raise Problem(f"{path}, line {number}", "is no receipt", remedy="compare the file with a backup") from None


def verify(site: Site) -> tuple[int, int]:
    """How many lines the record of everything sent has, and how many receipts agree with it. Raises `Problem`.

    The chain alone shows a changed, removed or moved line; the receipts show a record that was written anew, or that
    was cut at its end.
    """
    hashes = [GENESIS, *(entry["hash"] for entry in read_chain(site.sent))]
    agreed = 0
    for kept in read_receipts(site.checkpoints):
        said = kept.receipt
        if said.site != site.name or not is_of_hub(kept, site.ca):
            raise Problem(
                f"{site.checkpoints}, receipt of {said.at}",
                "was not signed by the hub",
                remedy="compare the file with a backup",
            )
        if said.count >= len(hashes) or hashes[said.count] != said.hash:
            found = "ends before that" if said.count >= len(hashes) else "has another line there"
            raise Problem(
                str(site.sent),
                f"the hub signed on {said.at} that this record had {said.count} lines; it {found}",
                remedy="this record was rewritten or cut; keep it as it is and compare it with a backup",
            )
        agreed += 1
    return len(hashes) - 1, agreed
