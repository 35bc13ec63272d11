"""Encoders that come from elsewhere: checked, kept, and remembered with what their signed release says of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from cryptography import x509

from polyward_server import audit
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.registry.states import Registry, printable
from polyward_server.tables import imports
from polyward_shared import pki
from polyward_shared.problems import Problem
from polyward_shared.releases import ARRAYS, FORMAT, LARGEST, STATEMENT, Statement, check_release, read_release


def bring(
    ledger: Ledger,
    registry: Registry,
    path: Path,
    *,
    ours: x509.Certificate,
    authority: x509.Certificate | None = None,
    fingerprint: str = "",
    volumes: bool = False,
    actor: str,
) -> tuple[str, Statement | None]:
    """Takes a safetensors file into the registry; its digest, and what its release says, if it has one.

    The statement of a release that lies beside it is checked first, and the file is refused if that is not sound, or
    signed under an authority that is neither ours nor named here. Raises `Problem`.
    """
    stated = _released(path, ours, authority, fingerprint)
    state = registry.import_file(path, volumes=volumes, expected=stated.encoder if stated else "")
    lineage = stated.model_dump(mode="json") | {"volumes": volumes} if stated else {}
    source = printable(path.name)
    with ledger.engine.begin() as db:
        audit.take_turn(db)
        known = db.execute(sa.select(imports.c.lineage).where(imports.c.encoder == state)).scalar()
        if known is None or (known == "{}" and lineage):
            db.execute(sa.delete(imports).where(imports.c.encoder == state))
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            row = {"encoder": state, "source": source, "lineage": json.dumps(lineage), "at": at, "actor": actor}
            db.execute(imports.insert().values(**row))
            said = f", release {stated.name} of {stated.hub}" if stated else ""
            audit.append(db, Event("", 0, "", "imported", f"{state} from {source}{said}", actor))
    return state, stated


def _released(
    path: Path, ours: x509.Certificate, authority: x509.Certificate | None, fingerprint: str
) -> Statement | None:
    beside = path.with_suffix(STATEMENT)
    if not _is_release(beside) or path.suffix != ARRAYS:
        if authority is not None or fingerprint:
            raise Problem(
                str(path), "has no release beside it", expected=str(beside), remedy="keep both files in one folder"
            )
        return None
    if authority is None and not fingerprint:
        claimed = read_release(beside).authority
        own = pki.certificate_to_pem(ours).decode()
        authority = ours if claimed == own else None
    return check_release(path, authority=authority, fingerprint=fingerprint).release.statement


def _is_release(path: Path) -> bool:
    """Whether a file claims to be a release; what does not is none of our business."""
    try:
        if path.stat().st_size > LARGEST:
            return False
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.get("format") == FORMAT
