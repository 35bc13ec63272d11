"""What sites have signed: how far their own records were, with what the hub answered, in the ledger's database."""

from __future__ import annotations

import sqlalchemy as sa

from polyward_server.ledger import Ledger
from polyward_server.tables import checkpoints
from polyward_shared.checkpoints import Receipt


def keep_statement(ledger: Ledger, receipt: Receipt, signature: bytes, public_key: str) -> str:
    """Keeps a site's signed statement. Returns what is wrong with it beside earlier ones, or nothing."""
    with ledger.engine.begin() as db:
        own = sa.select(checkpoints).where(checkpoints.c.site == receipt.site)
        same = db.execute(own.where(checkpoints.c.lines == receipt.count)).all()
        if any(row.hash == receipt.hash for row in same):
            return ""
        longest = db.execute(own.order_by(checkpoints.c.lines.desc()).limit(1)).first()
        values = receipt.model_dump(exclude={"count"}) | {
            "lines": receipt.count,
            "signature": signature.hex(),
            "public_key": public_key,
        }
        db.execute(checkpoints.insert().values(**values))
    if same:
        return f"line {receipt.count} of its record had another hash before"
    if longest is not None and longest.lines > receipt.count:
        return f"its record had {longest.lines} lines before and has {receipt.count} now"
    return ""


def read_statements(ledger: Ledger) -> list[tuple[Receipt, bytes, str]]:
    """Every signed statement with the hub's answer, the signature and the key: by site, shortest first."""
    with ledger.engine.connect() as db:
        rows = db.execute(sa.select(checkpoints).order_by(checkpoints.c.site, checkpoints.c.lines))
        return [
            (
                Receipt(site=r.site, count=r.lines, hash=r.hash, at=r.at, rounds=r.rounds, head=r.head),
                bytes.fromhex(r.signature),
                r.public_key,
            )
            for r in rows
        ]
