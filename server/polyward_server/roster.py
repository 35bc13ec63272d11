"""The sites: who is invited, who has which certificate, who was heard last, what they signed. In the ledger's database.

Four processes read it (door, control plane, runner, command line), each by short transactions.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from polyward_server import audit
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.tables import approvals, certificates, checkpoints, commands, contacts, invitations, sites
from polyward_shared.checkpoints import Receipt
from polyward_shared.pki import certificate_to_pem, public_key_pem
from polyward_shared.problems import Problem


@dataclass(frozen=True, slots=True)
class Asked:
    """An invitation as it stands: `request` is empty until somebody used it."""

    token: str
    site: str
    expires: float
    approved: bool
    request: str
    rejected: str
    served: str


@dataclass(frozen=True, slots=True)
class Contact:
    """What was last heard of a site on the control plane."""

    site: str
    connected: bool
    at: float
    progressed: float | None = None
    software: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was given to a site."""

    serial: str
    site: str
    public_key: str
    pem: str
    expires: float
    revoked: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A command of the coordinator's that its site has not heard yet."""

    id: int
    site: str
    what: str
    study: str


class Roster:
    """The sites of the hub whose ledger this is."""

    def __init__(self, ledger: Ledger) -> None:
        self._engine = ledger.engine

    # --- sites

    def register(self, name: str, public_key: str) -> None:
        """Admits a site by its public key (PEM). Raises `Problem` when the name or the key is another's."""
        with self._engine.begin() as db:
            _register(db, name, public_key)

    def keys(self) -> dict[str, str]:
        """Public key (PEM) of every site that may take part: not revoked, nor its certificate run out."""
        with self._engine.connect() as db:
            alive = {row.site: row.until for row in db.execute(_longest)}
            rows = db.execute(sa.select(sites).where(sites.c.revoked == "").order_by(sites.c.name))
            return {row.name: row.public_key for row in rows if alive.get(row.name, float("inf")) > time.time()}

    def revoked(self) -> dict[str, str]:
        """When each site that may not take part was put out."""
        with self._engine.connect() as db:
            rows = db.execute(sa.select(sites).where(sites.c.revoked != "").order_by(sites.c.name))
            return {row.name: row.revoked for row in rows}

    def revoke(self, name: str, *, actor: str = "") -> None:
        """Puts a site out, with every certificate it has and every invitation. Raises `Problem` for an unknown one."""
        with self._engine.begin() as db:
            audit.take_turn(db)
            known = db.execute(sites.update().where(sites.c.name == name).values(revoked=_now()))
            open_ones = invitations.update().where(invitations.c.site == name, invitations.c.rejected == "")
            invited = db.execute(open_ones.values(rejected=_now()))
            if not known.rowcount and not invited.rowcount:
                raise Problem(name, "is no site of this hub", remedy="polyward-hub sites HUB lists them")
            db.execute(certificates.update().where(certificates.c.site == name).values(revoked=_now()))
            audit.append(db, Event("", 0, name, "revoked", "", actor))
            db.execute(sa.delete(approvals).where(approvals.c.site == name))

    # --- invitations

    def invite(self, site: str, token: str, expires: float, *, approved: bool, actor: str = "") -> None:
        """Keeps the hash of a token. An earlier invitation of the site that nobody has used is good no more."""
        with self._engine.begin() as db:
            audit.take_turn(db)
            unused = (invitations.c.site == site) & (invitations.c.request == "")
            db.execute(sa.delete(invitations).where(unused))
            values = {"token": hashed(token), "site": site, "expires": expires, "approved": approved, "made": _now()}
            db.execute(invitations.insert().values(**values, request="", rejected="", served=""))
            until = datetime.fromtimestamp(expires, UTC)
            detail = f"until {until:%Y-%m-%d %H:%M} UTC" + (", approved beforehand" if approved else "")
            audit.append(db, Event("", 0, site, "invited", detail, actor))

    def asked(self, token: str) -> Asked | None:
        """The invitation with this token, if there is one."""
        with self._engine.connect() as db:
            row = db.execute(sa.select(invitations).where(invitations.c.token == hashed(token))).first()
            return _asked(row) if row else None

    def use(self, token: str, request: str) -> bool:
        """Binds the invitation to this request, unless it is bound to another already."""
        asked = self.asked(token)
        if asked is None or asked.request:
            return asked is not None and asked.request == request
        free = (invitations.c.token == asked.token) & (invitations.c.request == "")
        with self._engine.begin() as db:
            audit.take_turn(db)
            bound = bool(db.execute(invitations.update().where(free).values(request=request)).rowcount)
            if bound:
                audit.append(db, Event("", 0, asked.site, "asks", "to join, with its invitation"))
        return bound or self.use(token, request)

    def waiting(self, *, approved: bool) -> list[Asked]:
        """Invitations that were used, not rejected, and have no certificate yet, oldest first."""
        query = sa.select(invitations).where(
            invitations.c.request != "",
            invitations.c.rejected == "",
            invitations.c.approved == approved,
            invitations.c.served == "",
        )
        with self._engine.connect() as db:
            return [_asked(row) for row in db.execute(query.order_by(invitations.c.made))]

    def invited(self) -> list[Asked]:
        """Invitations that nobody has used and that were not taken back, newest first."""
        query = sa.select(invitations).where(invitations.c.request == "", invitations.c.rejected == "")
        with self._engine.connect() as db:
            return [_asked(row) for row in db.execute(query.order_by(invitations.c.made.desc()))]

    def decide(self, token_hash: str, *, approve: bool, actor: str = "") -> bool:
        """A person's word on a request, or on an invitation; whether there was still something to decide."""
        values, what = ({"approved": True}, "admitted") if approve else ({"rejected": _now()}, "rejected")
        undecided = (invitations.c.token == token_hash) & (invitations.c.rejected == "") & (invitations.c.served == "")
        with self._engine.begin() as db:
            audit.take_turn(db)
            site = db.execute(sa.select(invitations.c.site).where(undecided)).scalar()
            if site is None:
                return False
            db.execute(invitations.update().where(undecided).values(**values))
            audit.append(db, Event("", 0, site, what, "", actor))
            return True

    # --- certificates

    def issue(self, site: str, certificate: x509.Certificate, *, invitation: str = "", holder: str = "") -> None:
        """Keeps a new certificate and, with it, the site's key: a new key takes the place of the one before.

        It was asked for with an invitation (the hash of its token), or by the `holder` of the site's key (PEM). Raises
        `Problem` if that is good no more: a site that was put out meanwhile stays out.
        """
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TypeError("the authority signs elliptic-curve keys alone")
        public = public_key_pem(key)
        with self._engine.begin() as db:
            audit.take_turn(db)
            if not _is_entitled(db, site, invitation, holder):
                raise Problem(site, "was put out, or has another key now", remedy="invite the site anew")
            _register(db, site, public, replace=True)
            db.execute(
                certificates.insert().values(
                    serial=f"{certificate.serial_number:x}",
                    site=site,
                    public_key=public,
                    pem=certificate_to_pem(certificate).decode(),
                    issued=_now(),
                    expires=certificate.not_valid_after_utc.timestamp(),
                    revoked="",
                )
            )
            other = (certificates.c.site == site) & (certificates.c.public_key != public)
            db.execute(certificates.update().where(other, certificates.c.revoked == "").values(revoked=_now()))
            until = f"until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            audit.append(db, Event("", 0, site, "certified", until))

    def certificate(self, serial: int) -> Issued | None:
        """The certificate with this number, if this hub gave it."""
        with self._engine.connect() as db:
            row = db.execute(sa.select(certificates).where(certificates.c.serial == f"{serial:x}")).first()
            return _issued(row) if row else None

    def was_revoked(self, public_key: str) -> bool:
        """Whether a certificate of this key was ever taken back: such a key is never good again."""
        with self._engine.connect() as db:
            taken = certificates.c.revoked != ""
            return (
                db.execute(sa.select(certificates).where(certificates.c.public_key == public_key, taken)).first()
                is not None
            )

    def newest(self, site: str, public_key: str | None = None) -> Issued | None:
        """The site's certificate that is good for longest, of this key if one is named."""
        query = sa.select(certificates).where(certificates.c.site == site, certificates.c.revoked == "")
        if public_key is not None:
            query = query.where(certificates.c.public_key == public_key)
        with self._engine.connect() as db:
            row = db.execute(query.order_by(certificates.c.expires.desc()).limit(1)).first()
            return _issued(row) if row else None

    def expiries(self) -> dict[str, float]:
        """Of every site that has one: until when its certificate is good that is good for longest (Unix seconds)."""
        with self._engine.connect() as db:
            return {row.site: row.until for row in db.execute(_longest)}

    # --- contact

    def heard(self, *news: Contact) -> None:
        """Replaces what was known of these sites."""
        with self._engine.begin() as db:
            for contact in news:
                values = {
                    "connected": contact.connected,
                    "at": contact.at,
                    "progressed": contact.progressed,
                    "software": contact.software,
                    "status": json.dumps(contact.status),
                }
                if not db.execute(contacts.update().where(contacts.c.site == contact.site).values(**values)).rowcount:
                    db.execute(contacts.insert().values(site=contact.site, **values))

    def contacts(self) -> dict[str, Contact]:
        with self._engine.connect() as db:
            return {
                row.site: Contact(row.site, row.connected, row.at, row.progressed, row.software, json.loads(row.status))
                for row in db.execute(sa.select(contacts).order_by(contacts.c.site))
            }

    def all_gone(self) -> None:
        """Nobody is connected to a control plane that has just started."""
        with self._engine.begin() as db:
            db.execute(contacts.update().values(connected=False))

    # --- commands

    def order(self, site: str, what: str, study: str = "") -> int:
        """A command for a site; it is sent when the site is connected."""
        with self._engine.begin() as db:
            made = db.execute(commands.insert().values(site=site, what=what, study=study, at=_now(), state="waiting"))
            number: int = made.inserted_primary_key[0]  # type: ignore[index]  # there is always one
            return number

    def orders(self) -> list[Waiting]:
        """Commands that nobody has heard yet, oldest first."""
        with self._engine.connect() as db:
            rows = db.execute(sa.select(commands).where(commands.c.state == "waiting").order_by(commands.c.id))
            return [Waiting(row.id, row.site, row.what, row.study) for row in rows]

    def ordered(self, number: int, site: str, state: str) -> None:
        """What became of a site's command; another site's word on it counts for nothing."""
        with self._engine.begin() as db:
            own = (commands.c.id == number) & (commands.c.site == site)
            db.execute(commands.update().where(own).values(state=state))

    def order_state(self, number: int) -> str:
        """What became of a command: waiting, sent, obeyed or declined."""
        with self._engine.connect() as db:
            return str(db.execute(sa.select(commands.c.state).where(commands.c.id == number)).scalar_one())

    # --- checkpoints

    def keep(self, receipt: Receipt, signature: bytes, public_key: str) -> str:
        """Keeps a site's signed statement. Returns what is wrong with it beside earlier ones, or nothing."""
        with self._engine.begin() as db:
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

    def checkpoints(self) -> list[tuple[Receipt, bytes, str]]:
        """Every signed statement with the hub's answer, the signature and the key: by site, shortest first."""
        with self._engine.connect() as db:
            rows = db.execute(sa.select(checkpoints).order_by(checkpoints.c.site, checkpoints.c.lines))
            return [
                (
                    Receipt(site=r.site, count=r.lines, hash=r.hash, at=r.at, rounds=r.rounds, head=r.head),
                    bytes.fromhex(r.signature),
                    r.public_key,
                )
                for r in rows
            ]


_longest = (
    sa.select(certificates.c.site, sa.func.max(certificates.c.expires).label("until"))
    .where(certificates.c.revoked == "")
    .group_by(certificates.c.site)
)


def hashed(token: str) -> str:
    """What the hub keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _is_entitled(db: sa.Connection, site: str, invitation: str, holder: str) -> bool:
    """Whether a certificate may be given. The look begins with a write, so no revocation gets in between."""
    if invitation:
        good = (invitations.c.token == invitation) & invitations.c.approved & (invitations.c.rejected == "")
        return bool(db.execute(invitations.update().where(good).values(served=_now())).rowcount)
    db.execute(sites.update().where(sites.c.name == site).values(name=site))
    row = db.execute(sa.select(sites).where(sites.c.name == site)).first()
    if row is None:
        return not holder
    return not row.revoked and holder in {"", row.public_key}


def _register(db: sa.Connection, name: str, public_key: str, *, replace: bool = False) -> None:
    taken = db.execute(sa.select(sites).where(sites.c.public_key == public_key, sites.c.name != name)).first()
    if taken is not None:
        raise Problem(
            name, f"the site {taken.name!r} already has this key", remedy="make a key of its own for every site"
        )
    row = db.execute(sa.select(sites).where(sites.c.name == name)).first()
    if row is None:
        db.execute(sites.insert().values(name=name, public_key=public_key, registered=_now(), revoked=""))
    elif replace:
        db.execute(sites.update().where(sites.c.name == name).values(public_key=public_key, revoked=""))
    elif row.public_key != public_key:
        raise Problem(name, f"the site {name!r} already has this name", remedy="choose another name")


def _asked(row: sa.Row[Any]) -> Asked:
    return Asked(row.token, row.site, row.expires, row.approved, row.request, row.rejected, row.served)


def _issued(row: sa.Row[Any]) -> Issued:
    return Issued(row.serial, row.site, row.public_key, row.pem, row.expires, row.revoked)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
