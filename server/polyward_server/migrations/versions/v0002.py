"""Tables of the durable runs, the registry and the dashboard; events are chained by hashes and only appended.

The events that are there are numbered anew without gaps and hashed in their order.
"""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0002"
down_revision = "0001"

GENESIS = "0" * 64
AT_ONCE = 1000  # events
REFUSED = "events are only appended"
WIDER = {
    "checkpoints": ("lines", "rounds"),
    "members": ("samples",),
    "contributions": ("weight", "bytes_up", "bytes_down"),
}


def upgrade() -> None:
    for table, columns in WIDER.items():
        with op.batch_alter_table(table) as batch:
            for column in columns:
                batch.alter_column(column, existing_type=sa.Integer(), type_=sa.BigInteger(), existing_nullable=False)
    number = sa.Column("priority", sa.Integer, nullable=False, server_default="0")
    _add(
        "studies",
        number,
        *(sa.Column(name, text(64), nullable=False, server_default="") for name in ("extends", "author")),
    )
    make_tables()
    _add(
        "events",
        sa.Column("actor", text(80), nullable=False, server_default=""),
        sa.Column("hash", text(64), nullable=False, server_default=""),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE events ALTER COLUMN id DROP DEFAULT")
        op.execute("DROP SEQUENCE events_id_seq")
    chain_events(op.get_bind())
    guard_events(op.get_bind().dialect.name)


def _add(table: str, *columns: sa.Column[str] | sa.Column[int]) -> None:
    """The defaults fill the rows that are there, and go."""
    with op.batch_alter_table(table) as batch:
        for column in columns:
            batch.add_column(column)
    with op.batch_alter_table(table) as batch:
        for column in columns:
            batch.alter_column(column.name, existing_type=column.type, existing_nullable=False, server_default=None)


def chain_events(db: sa.Connection) -> None:
    """Numbers and hashes: SHA-256 of the hash before, number, time, study, round, site, what, detail, actor as JSON."""
    number, last = 0, GENESIS
    old = sa.text("SELECT id, at, study, round, site, what, detail FROM events WHERE id > :id ORDER BY id LIMIT :many")
    new = sa.text("UPDATE events SET id = :number, hash = :hash WHERE id = :id")
    seen: int | None = -(2**31) + 1
    while seen is not None:
        changed = []
        for row in db.execute(old, {"id": seen, "many": AT_ONCE}):
            number += 1
            told = [last, number, row.at, row.study, row.round, row.site, row.what, row.detail, ""]
            last = hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()
            changed.append({"id": row.id, "number": number, "hash": last})
        if changed:
            db.execute(new, changed)
        seen = changed[-1]["id"] if changed else None
    head = sa.text("INSERT INTO heads (chain, number, hash) VALUES ('events', :number, :hash)")
    db.execute(head, {"number": number, "hash": last})


def guard_events(dialect: str) -> None:
    if dialect == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER events_refuse_{what.lower()} BEFORE {what} ON events"
                f" BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION events_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{REFUSED}' USING ERRCODE = 'restrict_violation'; END $$"
    )
    op.execute(
        "CREATE TRIGGER events_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON events"
        " FOR EACH STATEMENT EXECUTE FUNCTION events_refuse()"
    )


def text(length: int | None = None) -> TypeEngine[str]:
    """Sorted by bytes in every database."""
    kind = sa.Text if length is None else sa.String
    return kind(length).with_variant(kind(length, collation="C"), "postgresql")


def make_tables() -> None:
    op.create_table(
        "leases",
        sa.Column("study", text(64), sa.ForeignKey("studies.digest"), primary_key=True),
        sa.Column("holder", text(64), nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_table(
        "approvals",
        sa.Column("study", text(64), primary_key=True),
        sa.Column("site", text(64), primary_key=True),
        sa.Column("at", text(32), nullable=False),
    )
    op.create_table(
        "spans",
        sa.Column("study", text(64), primary_key=True),
        sa.Column("round", sa.Integer, primary_key=True),
        sa.Column("site", text(64), primary_key=True),
        sa.Column("phase", text(12), primary_key=True),
        sa.Column("began", sa.Float, primary_key=True),
        sa.Column("seconds", sa.Float, nullable=False),
    )
    op.create_table(
        "heads",
        sa.Column("chain", text(12), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("hash", text(64), nullable=False),
    )
    op.create_table(
        "tags",
        sa.Column("tag", text(64), primary_key=True),
        sa.Column("encoder", text(64), nullable=False),
        sa.Column("at", text(32), nullable=False),
        sa.Column("actor", text(80), nullable=False),
    )
    op.create_table(
        "imports",
        sa.Column("encoder", text(64), primary_key=True),
        sa.Column("source", text(255), nullable=False),
        sa.Column("lineage", text(), nullable=False),
        sa.Column("at", text(32), nullable=False),
        sa.Column("actor", text(80), nullable=False),
    )
    op.create_table(
        "releases",
        sa.Column("name", text(64), primary_key=True),
        sa.Column("encoder", text(64), nullable=False),
        sa.Column("statement", text(), nullable=False),
        sa.Column("signature", text(), nullable=False),
        sa.Column("at", text(32), nullable=False),
        sa.Column("actor", text(80), nullable=False),
    )
    op.create_table(
        "users",
        sa.Column("name", text(64), primary_key=True),
        sa.Column("role", text(12), nullable=False),
        sa.Column("password", text(200), nullable=False),
        sa.Column("subject", text(255), nullable=False),
        sa.Column("made", text(32), nullable=False),
        sa.Column("disabled", text(32), nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("id", text(64), primary_key=True),
        sa.Column("user", text(64), sa.ForeignKey("users.name"), nullable=False),
        sa.Column("token", text(64), nullable=False),
        sa.Column("began", sa.Float, nullable=False),
        sa.Column("seen", sa.Float, nullable=False),
    )
    op.create_table(
        "failures",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("who", text(255), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("ix_failures_who", "failures", ["who"])
