"""The sites: who asks to join, who takes part and how they are, and which invitations are open."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal, get_args

import sqlalchemy as sa

from polyward_server.admission import fingerprint_of
from polyward_server.contacts import Contact, read_contacts
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_server.tables import approvals, certificates, sites, studies
from polyward_shared import pki
from polyward_shared.reading import Frozen

Standing = Literal["idle", "working", "paused", "trainer_away", "unknown", "here", "away", "expired", "revoked"]
SOON_DAYS = 3.0  # a certificate that ends sooner has missed its renewal


class RequestRow(Frozen):
    """A site that has used its invitation and waits for a person's word."""

    site: str
    fingerprint: str  # of its key, in groups of four
    known: bool  # takes part already: the new key would take the place of its present one


class Requests(Frozen):
    """Everybody who asks to join, longest waiting first."""

    rows: tuple[RequestRow, ...]


class Gpu(Frozen):
    """One graphics processor, as the site says."""

    model: str
    memory_used: int  # bytes
    memory_total: int
    busy: float  # 0 to 1


class SiteRow(Frozen):
    """One site."""

    site: str
    state: Standing
    here: bool  # connected now
    study: str  # id of the study at work, or empty
    round: int | None
    phase: str
    done: int | None
    of: int | None
    heard: datetime | None
    certificate_ends: datetime | None
    certificate_days: float | None  # until then
    certificate_soon: bool
    fingerprint: str
    software: str  # names and versions, as it says
    differs: Literal["", "hub", "sites"]  # its polyward is not the hub's, or its software not that of most sites
    cpu: float | None  # part of all processors in use
    memory_used: int | None  # bytes
    memory_total: int | None
    disk_free: int | None
    gpus: tuple[Gpu, ...]
    refusals: int  # since its gate started
    refused: str  # by code
    approved: int  # studies of this hub
    revoked: datetime | None


class Sites(Frozen):
    """Every site of the hub, those that may take part first."""

    software: str  # of the hub
    rows: tuple[SiteRow, ...]


class InvitationRow(Frozen):
    """An invitation that nobody has used. `id` is the hash of its token, which opens nothing."""

    id: str
    site: str
    expires: datetime
    over: bool
    approved: bool  # beforehand


class Invitations(Frozen):
    """The newest first."""

    rows: tuple[InvitationRow, ...]


def read_requests(roster: Roster) -> Requests:
    """Reads it from the roster."""
    known = roster.keys()
    return Requests(
        rows=tuple(
            RequestRow(site=asked.site, fingerprint=fingerprint_of(asked), known=asked.site in known)
            for asked in roster.waiting(approved=False)
        )
    )


def read_sites(ledger: Ledger) -> Sites:
    """Reads it from the ledger, as of now."""
    longest = sa.select(certificates.c.site, sa.func.max(certificates.c.expires).label("until"))
    given = sa.select(approvals.c.site, sa.func.count().label("count")).group_by(approvals.c.site)
    with ledger.engine.connect() as db:
        known = db.execute(sa.select(sites).order_by(sites.c.name)).all()
        query = longest.where(certificates.c.revoked == "").group_by(certificates.c.site)
        until = {row.site: float(row.until) for row in db.execute(query)}
        approved = {row.site: row[1] for row in db.execute(given)}
        names = {row.digest: row.id for row in db.execute(sa.select(studies.c.digest, studies.c.id))}
    contacts = read_contacts(ledger)
    usual = Counter(contacts[row.name].software for row in known if row.name in contacts and not row.revoked)
    most = usual.most_common(1)[0][0] if usual else ""
    rows = [
        _site(row, contacts.get(row.name), until.get(row.name), approved.get(row.name, 0), names, most) for row in known
    ]
    return Sites(software=f"polyward {version('polyward')}", rows=tuple(sorted(rows, key=lambda r: bool(r.revoked))))


def read_invitations(roster: Roster) -> Invitations:
    """Reads it from the roster."""
    return Invitations(
        rows=tuple(
            InvitationRow(
                id=asked.token,
                site=asked.site,
                expires=_at(asked.expires),
                over=asked.expires < time.time(),
                approved=asked.approved,
            )
            for asked in roster.invited()
        )
    )


def _site(
    row: sa.Row[Any], contact: Contact | None, until: float | None, approved: int, names: Mapping[str, str], most: str
) -> SiteRow:
    status = contact.status if contact else {}
    here = contact is not None and contact.connected and not row.revoked
    work = status.get("work", {}) if here else {}
    machine = status.get("machine", {})
    refused = status.get("refusals", {})
    software = contact.software if contact else ""
    days = (until - time.time()) / 86400 if until is not None else None
    return SiteRow(
        site=row.name,
        state=_state(row, status, days, here=here),
        here=here,
        study=names.get(work.get("study", ""), ""),
        round=work.get("round") if work.get("study") else None,
        phase=str(work.get("phase", "")) if work.get("study") else "",
        done=work.get("done") if work.get("study") else None,
        of=work.get("of") if work.get("study") else None,
        heard=_at(contact.at) if contact else None,
        certificate_ends=_at(until) if until is not None else None,
        certificate_days=days,
        certificate_soon=days is not None and days < SOON_DAYS,
        fingerprint=pki.fingerprint(row.public_key),
        software=software,
        differs=_differs(software, most),
        cpu=machine.get("cpu"),
        memory_used=machine.get("memory_used"),
        memory_total=machine.get("memory_total"),
        disk_free=machine.get("disk_free"),
        gpus=tuple(Gpu(**gpu) for gpu in machine.get("gpus", ())),
        refusals=sum(refused.values()),
        refused=", ".join(f"{code}: {count}" for code, count in sorted(refused.items())),
        approved=approved,
        revoked=datetime.fromisoformat(row.revoked) if row.revoked else None,
    )


def _state(row: sa.Row[Any], status: Mapping[str, Any], days: float | None, *, here: bool) -> Standing:
    if row.revoked:
        return "revoked"
    if days is not None and days <= 0:
        return "expired"
    if not here:
        return "away"
    said = status.get("state", "here")
    return said if said in get_args(Standing) else "unknown"  # a word of another version


def _differs(software: str, most: str) -> Literal["", "hub", "sites"]:
    if not software:
        return ""
    if f"polyward {version('polyward')}" not in (part.strip() for part in software.split(",")):
        return "hub"
    return "sites" if software != most else ""


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
