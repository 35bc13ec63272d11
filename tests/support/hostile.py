"""A hub whose sites, people and files bear names made to break pages.

They are written into the ledger directly, past every check at the hub's doors.
"""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy as sa

from polyward_server import audit
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.tables import contacts, imports, invitations, metrics, rounds, studies, tags
from tests.support.story import tell

SITE = "'\"><xss onclick=x>{{71*99991}}\u202e\u0007</td>"
MARKUP = f"{SITE}</script><script>alert(1)</script><img src=x onerror=alert(1)>"
FORMULA = '=HYPERLINK("http://evil.example";"x")'


def hostile_hub(folder: Path) -> Hub:
    """Makes it in `folder`, with three rounds."""
    hub = tell(folder, rounds=3, sites={SITE: 300, FORMULA: 100, "porto": 90})
    ledger = Ledger(hub.ledger)
    with ledger.engine.begin() as db:
        db.execute(studies.update().values(id=MARKUP, reason=MARKUP, author=MARKUP))
        db.execute(metrics.update().where(metrics.c.site == "porto", metrics.c.round == 3).values(name=MARKUP))
        work = {"study": MARKUP, "round": 3, "phase": "training", "done": 1, "of": 2}
        gpu = {"model": MARKUP, "memory_used": 1, "memory_total": 2, "busy": 0.5}
        machine = {"cpu": 0.1, "memory_used": 1, "memory_total": 2, "disk_free": 1, "gpus": [gpu]}
        status = json.dumps({"state": "working", "work": work, "machine": machine, "refusals": {}})
        db.execute(contacts.update().values(software=MARKUP))
        db.execute(contacts.update().where(contacts.c.site == SITE).values(status=status))
        encoder = db.execute(sa.select(rounds.c.encoder)).scalars().first()
        made = {"at": "2026-11-01T00:00:00.000+00:00", "actor": MARKUP}
        db.execute(tags.insert().values(tag=MARKUP, encoder=encoder, **made))
        db.execute(imports.insert().values(encoder=encoder, source=MARKUP, lineage="{}", **made))
        db.execute(
            invitations.insert().values(token="0" * 64, site=MARKUP, expires=4e9, approved=True, made=made["at"])
        )
        digest = db.execute(sa.select(studies.c.digest)).scalar_one()
        for what in ("refused", "missed", "outlier", "joined", MARKUP):
            audit.append(db, Event(digest, 3, SITE, what, MARKUP, MARKUP))
    ledger.close()
    return hub
