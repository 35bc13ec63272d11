"""The sites: who is invited, who may take part, and who has which certificate. In the ledger's database.

Four processes read it (door, control plane, runner, command line), each by short transactions.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from polyward_server import audit
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.tables import approvals, certificates, invitations, sites
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
class Issued:
    """A certificate that was given to a site."""

    serial: str
    site: str
    public_key: str
    pem: str
    expires: float
    revoked: str


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
