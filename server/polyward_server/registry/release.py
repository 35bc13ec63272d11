"""Releases: an encoder under a name for ever, with a statement that the hub signs (`polyward_shared.releases`).

What is signed is in the ledger before any file is written, and the files are made of that alone: they may be written
again at any time, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from polyward_server import audit
from polyward_server.ledger import Ledger
from polyward_server.registry.catalogue import Brought, Made, is_free
from polyward_server.registry.export import stamped, unwritten, write_file
from polyward_server.registry.lineage import Lineage, Measured, sites_of, split_of
from polyward_server.registry.states import Registry
from polyward_server.registry.tags import event_about
from polyward_server.tables import releases, tags
from polyward_shared.buckets import bucket
from polyward_shared.problems import Problem
from polyward_shared.reading import validated
from polyward_shared.releases import ARRAYS, STATEMENT, Figure, Release, Statement, Value, sign
from polyward_shared.states import state_parts
from polyward_shared.whole import write_whole


@dataclass(frozen=True, slots=True)
class Signer:
    """The hub as one who signs."""

    hub: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    authority: x509.Certificate


def release(
    ledger: Ledger,
    registry: Registry,
    told: Lineage,
    origin: Made | Brought,
    name: str,
    signer: Signer,
    *,
    notes: str,
    sites: bool,
    actor: str,
) -> Release:
    """Signs a statement about the encoder and keeps it, with an event. Raises `Problem` if the name is taken."""
    is_free(name)
    schema, flat = registry.encoder(told.state)
    values = {
        "name": name,
        "hub": signer.hub,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "encoder": schema.state_digest(flat),
        "layout": schema.digest,
        "arrays": len(schema.arrays),
        "values": schema.size,
        "ancestry": [each.model_dump(mode="json") for each in told.ancestry],
        "notes": notes,
        "file": "0" * 64,  # of a file that tells of all the rest
        "size": 0,
    }
    if isinstance(origin, Made):
        values |= _of_study(ledger, origin, told, sites=sites)
    draft = validated(values, Statement, where=f"the release {name!r}")
    running, size = hashlib.sha256(), 0
    for part in state_parts(schema.views(flat), stamped(schema, draft.stamp())):
        running.update(part)
        size += len(part)
    statement = draft.model_copy(update={"file": running.hexdigest(), "size": size})
    signed = sign(statement, signer.key, signer.certificate, signer.authority)
    with ledger.engine.begin() as db:
        audit.take_turn(db)
        for table, column, what in ((releases, releases.c.name, "a release"), (tags, tags.c.tag, "a tag")):
            if db.execute(sa.select(column).select_from(table).where(column == name)).first():
                raise Problem(
                    repr(name), f"is {what} already", expected="a new name: releases never change", remedy="choose one"
                )
        row = {"name": name, "encoder": told.state, "statement": signed.model_dump_json(), "actor": actor}
        db.execute(releases.insert().values(**row, signature=signed.signature, at=statement.at.isoformat()))
        audit.append(db, event_about(origin, "released", f"{name}: {told.state}, file {statement.file}", actor))
    return signed


def read_released(ledger: Ledger, name: str) -> tuple[str, Release]:
    """A release of this hub's and its state. Raises `Problem`."""
    with ledger.engine.connect() as db:
        row = db.execute(sa.select(releases).where(releases.c.name == name)).first()
    if row is None:
        raise Problem(repr(name), "is no release of this hub", remedy="polyward-hub encoders HUB shows them")
    return row.encoder, validated(json.loads(row.statement), Release, where=f"the release {name} in the ledger")


def write_release(registry: Registry, state: str, signed: Release, folder: Path) -> tuple[Path, Path]:
    """The two files of a release in a folder; files that are there already are left as they are, if they are these."""
    schema, flat = registry.encoder(state)
    name = signed.statement.name
    arrays, statement = folder / f"{name}{ARRAYS}", folder / f"{name}{STATEMENT}"
    stamp = stamped(schema, signed.statement.stamp())
    text = json.dumps(signed.model_dump(mode="json"), indent=1).encode() + b"\n"
    try:
        for path, parts in ((arrays, state_parts(schema.views(flat), stamp)), (statement, [text])):
            if path.exists() and not _holds(path, parts):
                raise Problem(str(path), "exists already and is another file", remedy="choose another folder")
        write_file(arrays, schema, flat, signed.statement.stamp())
        write_whole(statement, text)
    except OSError as error:
        raise unwritten(folder, error) from None
    return arrays, statement


def _holds(path: Path, parts: Iterable[bytes | memoryview]) -> bool:
    with path.open("rb") as file:
        return all(file.read(len(part)) == part for part in parts) and not file.read(1)


def _of_study(ledger: Ledger, origin: Made, told: Lineage, *, sites: bool) -> dict[str, object]:
    names = sites_of(ledger, origin)
    study, members = ledger.study(origin.study), ledger.members(origin.study)
    labels: Counter[str] = Counter()
    for name in names:
        labels.update(members[name].counts)
    return {
        "study": origin.study,
        "study_id": origin.study_id,
        "round": origin.round,
        "rule": told.rule,
        "sites": len(names),
        "site_names": names if sites else [],
        "samples": bucket(sum(members[name].samples for name in names)),
        "labels": {task: bucket(count) for task, count in sorted(labels.items())},
        "figures": [each.model_dump(mode="json") for each in _figures(told.figures, split_of(study), sites=sites)],
    }


def _figures(measured: Iterable[Measured], split: str, *, sites: bool) -> list[Figure]:
    """Site by site, on one split; sorted by value, so that their order names nobody."""
    found: dict[tuple[str, str, bool, str], list[Value]] = {}
    for each in measured:
        if each.split == split:
            value = Value(value=each.value, cases=bucket(each.cases), site=each.site if sites else None)
            found.setdefault((each.task, each.stage, not each.primary, each.metric), []).append(value)
    return [
        Figure(
            task=task,
            split=split,
            stage=stage,
            metric=metric,
            primary=not other,
            values=tuple(sorted(values, key=_by_value)),
        )
        for (task, stage, other, metric), values in sorted(found.items())
    ]


def _by_value(value: Value) -> tuple[float, str]:
    return value.value, value.site or ""
