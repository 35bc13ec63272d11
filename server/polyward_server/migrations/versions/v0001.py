"""The tables of the ledgers that were written before there were migrations (SQLite files of user_version 5)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None


def upgrade() -> None:
    tables.create_all(op.get_bind())


def text(length: int | None = None) -> TypeEngine[str]:
    """Sorted by bytes in every database."""
    kind = sa.Text if length is None else sa.String
    return kind(length).with_variant(kind(length, collation="C"), "postgresql")


tables = sa.MetaData()
studies = sa.Table(
    "studies",
    tables,
    sa.Column("digest", text(64), primary_key=True),
    sa.Column("id", text(64), nullable=False),
    sa.Column("text", text(), nullable=False),
    sa.Column("state", text(16), nullable=False),
    sa.Column("reason", text(), nullable=False),
    sa.Column("queued", text(32), nullable=False),
)
sites = sa.Table(
    "sites",
    tables,
    sa.Column("name", text(64), primary_key=True),
    sa.Column("public_key", text(), nullable=False, unique=True),
    sa.Column("registered", text(32), nullable=False),
    sa.Column("revoked", text(32), nullable=False),
)
invitations = sa.Table(
    "invitations",
    tables,
    sa.Column("token", text(64), primary_key=True),
    sa.Column("site", text(64), nullable=False),
    sa.Column("expires", sa.Float, nullable=False),
    sa.Column("approved", sa.Boolean, nullable=False),
    sa.Column("request", text(), nullable=False),
    sa.Column("rejected", text(32), nullable=False),
    sa.Column("served", text(32), nullable=False),
    sa.Column("made", text(32), nullable=False),
)
certificates = sa.Table(
    "certificates",
    tables,
    sa.Column("serial", text(40), primary_key=True),
    sa.Column("site", text(64), nullable=False),
    sa.Column("public_key", text(), nullable=False),
    sa.Column("pem", text(), nullable=False),
    sa.Column("issued", text(32), nullable=False),
    sa.Column("expires", sa.Float, nullable=False),
    sa.Column("revoked", text(32), nullable=False),
)
contacts = sa.Table(
    "contacts",
    tables,
    sa.Column("site", text(64), primary_key=True),
    sa.Column("connected", sa.Boolean, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("progressed", sa.Float),
    sa.Column("software", text(200), nullable=False),
    sa.Column("status", text(), nullable=False),
)
commands = sa.Table(
    "commands",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("site", text(64), nullable=False),
    sa.Column("what", text(12), nullable=False),
    sa.Column("study", text(64), nullable=False),
    sa.Column("at", text(32), nullable=False),
    sa.Column("state", text(12), nullable=False),
)
checkpoints = sa.Table(
    "checkpoints",
    tables,
    sa.Column("site", text(64), primary_key=True),
    sa.Column("lines", sa.Integer, primary_key=True),
    sa.Column("hash", text(64), primary_key=True),
    sa.Column("at", text(40), nullable=False),
    sa.Column("signature", text(), nullable=False),
    sa.Column("public_key", text(), nullable=False),
    sa.Column("rounds", sa.Integer, nullable=False),
    sa.Column("head", text(64), nullable=False),
)
members = sa.Table(
    "members",
    tables,
    sa.Column("study", sa.ForeignKey("studies.digest"), primary_key=True),
    sa.Column("site", text(64), primary_key=True),
    sa.Column("samples", sa.Integer, nullable=False),
    sa.Column("counts", text(), nullable=False),
    sa.Column("schema", text(), nullable=False),
    sa.Column("software", text(), nullable=False),
    sa.Column("agrees", sa.Boolean, nullable=False),
)
rounds = sa.Table(
    "rounds",
    tables,
    sa.Column("study", sa.ForeignKey("studies.digest"), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("state", text(64), nullable=False),
    sa.Column("encoder", text(64), nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("committed", text(32), nullable=False),
    sa.Column("memory", text(64), nullable=False),
    sa.Column("variants", text(), nullable=False),
    sa.Column("step", sa.Float),
    sa.Column("drift", sa.Float),
    sa.Column("cancellation", sa.Float),
    sa.Column("orthogonal", sa.Float),
    sa.Column("effective", sa.Float),
)
contributions = sa.Table(
    "contributions",
    tables,
    sa.Column("study", text(64), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("site", text(64), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("weight", sa.Integer, nullable=False),
    sa.Column("norm", sa.Float, nullable=False),
    sa.Column("sha256", text(64), nullable=False),
    sa.Column("bytes_up", sa.Integer, nullable=False),
    sa.Column("bytes_down", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("scale", sa.Float, nullable=False),
    sa.Column("share", sa.Float),
    sa.Column("agreement", sa.Float),
    sa.ForeignKeyConstraint(["study", "round"], ["rounds.study", "rounds.round"]),
)
pairs = sa.Table(
    "pairs",
    tables,
    sa.Column("study", text(64), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("site", text(64), primary_key=True),
    sa.Column("other", text(64), primary_key=True),
    sa.Column("cosine", sa.Float, nullable=False),
    sa.Column("magnitude", sa.Float, nullable=False),
    sa.ForeignKeyConstraint(["study", "round"], ["rounds.study", "rounds.round"]),
)
kept = sa.Table(
    "kept",
    tables,
    sa.Column("study", sa.ForeignKey("studies.digest"), primary_key=True),
    sa.Column("site", text(64), primary_key=True),
    sa.Column("task", text(40), primary_key=True),
    sa.Column("model", text(12), nullable=False),
)
metrics = sa.Table(
    "metrics",
    tables,
    sa.Column("study", text(64), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("site", text(64), primary_key=True),
    sa.Column("task", text(40), primary_key=True),
    sa.Column("split", text(8), primary_key=True),
    sa.Column("stage", text(12), primary_key=True),
    sa.Column("name", text(24), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("cases", sa.Integer, nullable=False),
    sa.Column("low", sa.Float),
    sa.Column("high", sa.Float),
)
events = sa.Table(
    "events",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", text(32), nullable=False),
    sa.Column("study", text(64), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("site", text(64), nullable=False),
    sa.Column("what", text(24), nullable=False),
    sa.Column("detail", text(), nullable=False),
)
