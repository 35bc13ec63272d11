"""The tables of the ledger. Primary keys make a second contribution of a site to a round impossible.

Events are only appended: triggers refuse every change of one. Texts are sorted by their bytes in every database,
because signatures are over what is sorted here.
"""

from __future__ import annotations

import sqlalchemy as sa

tables = sa.MetaData()
studies = sa.Table(
    "studies",
    tables,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # records.State
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("queued", sa.String(32), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False, default=0),  # higher first, then the longest waiting
    sa.Column("extends", sa.String(64), nullable=False, default=""),  # digest of the study that it goes on from
    sa.Column("author", sa.String(64), nullable=False, default=""),  # who brought it
)
leases = sa.Table(
    "leases",
    tables,
    sa.Column("study", sa.ForeignKey("studies.digest"), primary_key=True),
    sa.Column("holder", sa.String(64), nullable=False),  # the hub whose runner runs it
    sa.Column("until", sa.Float, nullable=False),  # Unix seconds; renewed while it runs
)
approvals = sa.Table(
    "approvals",
    tables,
    sa.Column("study", sa.String(64), primary_key=True),  # digest; of a study that this hub knows
    sa.Column("site", sa.String(64), primary_key=True),
    sa.Column("at", sa.String(32), nullable=False),  # when the site said so
)
spans = sa.Table(
    "spans",
    tables,
    sa.Column("study", sa.String(64), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("site", sa.String(64), primary_key=True),
    sa.Column("phase", sa.String(12), primary_key=True),  # of the site's work on the round, as it says
    sa.Column("began", sa.Float, primary_key=True),  # Unix seconds by the hub's clock
    sa.Column("seconds", sa.Float, nullable=False),
)
sites = sa.Table(
    "sites",
    tables,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("public_key", sa.Text, nullable=False, unique=True),
    sa.Column("registered", sa.String(32), nullable=False),
    sa.Column("revoked", sa.String(32), nullable=False, default=""),  # when; empty while it may take part
)
invitations = sa.Table(
    "invitations",
    tables,
    sa.Column("token", sa.String(64), primary_key=True),  # SHA-256: what is written here opens nothing
    sa.Column("site", sa.String(64), nullable=False),
    sa.Column("expires", sa.Float, nullable=False),  # Unix seconds
    sa.Column("approved", sa.Boolean, nullable=False),  # beforehand, or by a person who compared fingerprints
    sa.Column("request", sa.Text, nullable=False, default=""),  # of the key that used it first; no other may
    sa.Column("rejected", sa.String(32), nullable=False, default=""),
    sa.Column("served", sa.String(32), nullable=False, default=""),  # when its certificate was given
    sa.Column("made", sa.String(32), nullable=False),
)
certificates = sa.Table(
    "certificates",
    tables,
    sa.Column("serial", sa.String(40), primary_key=True),
    sa.Column("site", sa.String(64), nullable=False),
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("pem", sa.Text, nullable=False),
    sa.Column("issued", sa.String(32), nullable=False),
    sa.Column("expires", sa.Float, nullable=False),  # Unix seconds
    sa.Column("revoked", sa.String(32), nullable=False, default=""),
)
contacts = sa.Table(
    "contacts",
    tables,
    sa.Column("site", sa.String(64), primary_key=True),
    sa.Column("connected", sa.Boolean, nullable=False),
    sa.Column("at", sa.Float, nullable=False),  # Unix seconds of its last message
    sa.Column("progressed", sa.Float),  # when its work last came further
    sa.Column("software", sa.String(200), nullable=False, default=""),
    sa.Column("status", sa.Text, nullable=False, default="{}"),  # JSON of the last status
)
commands = sa.Table(
    "commands",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("site", sa.String(64), nullable=False),
    sa.Column("what", sa.String(12), nullable=False),  # wake, cancel
    sa.Column("study", sa.String(64), nullable=False, default=""),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),  # waiting, sent, obeyed, declined
)
checkpoints = sa.Table(
    "checkpoints",
    tables,
    sa.Column("site", sa.String(64), primary_key=True),
    sa.Column("lines", sa.BigInteger, primary_key=True),  # of the site's record
    sa.Column("hash", sa.String(64), primary_key=True),  # of the last of them; two for one number tell of a rewriting
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("signature", sa.Text, nullable=False),  # of the site's key, hexadecimal
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("rounds", sa.BigInteger, nullable=False),  # what the hub's receipt said of its own history
    sa.Column("head", sa.String(64), nullable=False),
)
members = sa.Table(
    "members",
    tables,
    sa.Column("study", sa.ForeignKey("studies.digest"), primary_key=True),
    sa.Column("site", sa.String(64), primary_key=True),
    sa.Column("samples", sa.BigInteger, nullable=False),
    sa.Column("counts", sa.Text, nullable=False),  # JSON: labels per task
    sa.Column("schema", sa.Text, nullable=False),
    sa.Column("software", sa.Text, nullable=False),
    sa.Column("agrees", sa.Boolean, nullable=False),  # with the first state of the others
)
rounds = sa.Table(
    "rounds",
    tables,
    sa.Column("study", sa.ForeignKey("studies.digest"), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("state", sa.String(64), nullable=False),
    sa.Column("encoder", sa.String(64), nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("committed", sa.String(32), nullable=False),
    sa.Column("memory", sa.String(64), nullable=False),  # digest of what the rule remembers, or empty
    sa.Column("variants", sa.Text, nullable=False),  # JSON: site -> group -> key, where sites hold different states
    sa.Column("step", sa.Float),  # length of the encoder's step
    sa.Column("drift", sa.Float),  # its distance from the first encoder
    sa.Column("cancellation", sa.Float),  # part of the sites' lengths that was lost in the sum
    sa.Column("orthogonal", sa.Float),  # the same if their updates stood at right angles
    sa.Column("effective", sa.Float),  # sites, as many as equally weighted ones would tell as much
)
contributions = sa.Table(
    "contributions",
    tables,
    sa.Column("study", sa.String(64), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("site", sa.String(64), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("weight", sa.BigInteger, nullable=False),
    sa.Column("norm", sa.Float, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("bytes_up", sa.BigInteger, nullable=False),
    sa.Column("bytes_down", sa.BigInteger, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),  # of training, as the site says
    sa.Column("steps", sa.Integer, nullable=False),  # of the optimiser, as the site says
    sa.Column("scale", sa.Float, nullable=False),  # below 1 where the update was cut to a usual length
    sa.Column("share", sa.Float),  # of the encoder's step
    sa.Column("agreement", sa.Float),  # cosine with the sum of the others
    sa.ForeignKeyConstraint(["study", "round"], ["rounds.study", "rounds.round"]),
)
pairs = sa.Table(
    "pairs",
    tables,
    sa.Column("study", sa.String(64), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("site", sa.String(64), primary_key=True),
    sa.Column("other", sa.String(64), primary_key=True),
    sa.Column("cosine", sa.Float, nullable=False),  # of their updates of the encoder
    sa.Column("magnitude", sa.Float, nullable=False),  # similarity of lengths, 1 if equal
    sa.ForeignKeyConstraint(["study", "round"], ["rounds.study", "rounds.round"]),
)
kept = sa.Table(
    "kept",
    tables,
    sa.Column("study", sa.ForeignKey("studies.digest"), primary_key=True),
    sa.Column("site", sa.String(64), primary_key=True),
    sa.Column("task", sa.String(40), primary_key=True),
    sa.Column("model", sa.String(12), nullable=False),  # that the site keeps: federated, alone, ditto
)
metrics = sa.Table(
    "metrics",
    tables,
    sa.Column("study", sa.String(64), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
    sa.Column("site", sa.String(64), primary_key=True),
    sa.Column("task", sa.String(40), primary_key=True),
    sa.Column("split", sa.String(8), primary_key=True),
    sa.Column("stage", sa.String(12), primary_key=True),
    sa.Column("name", sa.String(24), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("cases", sa.Integer, nullable=False),
    sa.Column("low", sa.Float),  # of the interval, where one was measured
    sa.Column("high", sa.Float),
)
events = sa.Table(
    "events",
    tables,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # without gaps
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("study", sa.String(64), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("site", sa.String(64), nullable=False),
    sa.Column("what", sa.String(24), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("actor", sa.String(80), nullable=False, default=""),  # the person who did it, or empty for the hub
    sa.Column("hash", sa.String(64), nullable=False),  # of this event and the one before
)
heads = sa.Table(
    "heads",
    tables,
    sa.Column("chain", sa.String(12), primary_key=True),  # "events"
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
tags = sa.Table(
    "tags",
    tables,
    sa.Column("tag", sa.String(64), primary_key=True),
    sa.Column("encoder", sa.String(64), nullable=False),  # digest of the state in the registry
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("actor", sa.String(80), nullable=False),
)
imports = sa.Table(
    "imports",
    tables,
    sa.Column("encoder", sa.String(64), primary_key=True),  # digest of the state in the registry
    sa.Column("source", sa.String(255), nullable=False),  # the file's name, as it was told
    sa.Column("lineage", sa.Text, nullable=False),  # JSON: what a signed release said of it, or {}
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("actor", sa.String(80), nullable=False),
)
releases = sa.Table(
    "releases",
    tables,
    sa.Column("name", sa.String(64), primary_key=True),  # such as breast-1.0
    sa.Column("encoder", sa.String(64), nullable=False),
    sa.Column("statement", sa.Text, nullable=False),  # JSON: its file, with what was signed and the certificates
    sa.Column("signature", sa.Text, nullable=False),  # of the hub's server key, hexadecimal
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("actor", sa.String(80), nullable=False),
)
users = sa.Table(
    "users",
    tables,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(12), nullable=False),  # viewer, coordinator, admin
    sa.Column("password", sa.String(200), nullable=False, default=""),  # argon2id; empty for those of a provider
    sa.Column("subject", sa.String(255), nullable=False, default=""),  # who it is at the OpenID provider
    sa.Column("made", sa.String(32), nullable=False),
    sa.Column("disabled", sa.String(32), nullable=False, default=""),  # when; empty while it may sign in
)
sessions = sa.Table(
    "sessions",
    tables,
    sa.Column("id", sa.String(64), primary_key=True),  # SHA-256 of the cookie
    sa.Column("user", sa.ForeignKey("users.name"), nullable=False),
    sa.Column("token", sa.String(64), nullable=False),  # that every changing request must bear
    sa.Column("began", sa.Float, nullable=False),  # Unix seconds
    sa.Column("seen", sa.Float, nullable=False),
)
failures = sa.Table(
    "failures",
    tables,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("who", sa.String(255), nullable=False, index=True),  # a user's name or an address, as tried
    sa.Column("at", sa.Float, nullable=False),  # Unix seconds
)

for table in tables.tables.values():
    for column in table.columns:
        if isinstance(column.type, sa.String):
            bytewise = type(column.type)(column.type.length, collation="C")
            column.type = column.type.with_variant(bytewise, "postgresql")

REFUSED = "events are only appended"
GUARDS = {
    "sqlite": tuple(
        f"CREATE TRIGGER events_refuse_{what.lower()} BEFORE {what} ON events"
        f" BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
        for what in ("UPDATE", "DELETE")
    ),
    "postgresql": (
        "CREATE FUNCTION events_refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{REFUSED}' USING ERRCODE = 'restrict_violation'; END $$",
        "CREATE TRIGGER events_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON events"
        " FOR EACH STATEMENT EXECUTE FUNCTION events_refuse()",
    ),
}


@sa.event.listens_for(events, "after_create")
def _guard(_: sa.Table, db: sa.Connection, **__: object) -> None:
    for statement in GUARDS[db.dialect.name]:
        db.exec_driver_sql(statement)
