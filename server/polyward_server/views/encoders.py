"""The registry as people see it: all encoders, one with its lineage, and two side by side."""

from __future__ import annotations

from pydantic import AwareDatetime

from polyward_server.ledger import Ledger
from polyward_server.registry import Registry
from polyward_server.registry.catalogue import Brought, Catalogue, Made, read_catalogue
from polyward_server.registry.compare import Comparison, compare
from polyward_server.registry.lineage import Lineage, lineage
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen
from polyward_shared.schema import ENCODER, Named, Schema, group_of
from polyward_shared.states import read_stamp


class EncoderRow(Frozen):
    """One state."""

    state: str  # digest: the name of its file
    encoder: str  # digest of the encoder alone
    study: str  # digest; empty for an import
    study_id: str
    round: int | None
    source: str  # the imported file's name
    tags: tuple[str, ...]
    releases: tuple[str, ...]
    size: int | None  # bytes; None where the file is here no more
    at: AwareDatetime
    newest: bool  # of its study

    @property
    def outstanding(self) -> bool:
        """Whether it is the newest of its study, an import, or has a name."""
        return self.newest or not self.study or bool(self.tags or self.releases)


class Encoders(Frozen):
    """Every state, the newest first."""

    rows: tuple[EncoderRow, ...]


class EncoderPage(Frozen):
    """One state with all that is known of it."""

    row: EncoderRow
    groups: tuple[str, ...]
    arrays: int
    values: int
    lineage: Lineage


class ComparisonPage(Frozen):
    """Two encoders side by side."""

    a: EncoderRow
    b: EncoderRow
    comparison: Comparison


def read_encoders(ledger: Ledger, registry: Registry) -> Encoders:
    """Reads it from the ledger and the sizes of files."""
    catalogue = read_catalogue(ledger, registry)
    newest = _newest(catalogue)
    rows = [_row(registry, catalogue, origin, newest) for origin in catalogue.origins.values()]
    return Encoders(rows=tuple(sorted(rows, key=lambda row: (row.at, row.round or 0), reverse=True)))


def read_encoder_page(ledger: Ledger, registry: Registry, name: str) -> EncoderPage:
    """The state that a person names. Raises `Problem`."""
    catalogue = read_catalogue(ledger, registry)
    state = catalogue.named(name)
    schema = _schema(registry, state)
    return EncoderPage(
        row=_row(registry, catalogue, catalogue.origins[state], _newest(catalogue)),
        groups=tuple(schema.groups),
        arrays=len(schema.arrays),
        values=schema.size,
        lineage=lineage(ledger, catalogue, state),
    )


def read_comparison(ledger: Ledger, registry: Registry, a: str, b: str) -> ComparisonPage:
    """Two states that a person names: their encoders alone, which are read as they lie on the disk."""
    catalogue = read_catalogue(ledger, registry)
    newest, states = _newest(catalogue), (catalogue.named(a), catalogue.named(b))
    rows = [_row(registry, catalogue, catalogue.origins[state], newest) for state in states]
    encoders = [_encoder(registry, state) for state in states]
    return ComparisonPage(a=rows[0], b=rows[1], comparison=compare(*encoders))


def _row(registry: Registry, catalogue: Catalogue, origin: Made | Brought, newest: set[str]) -> EncoderRow:
    path = registry.path(origin.state)
    made = origin if isinstance(origin, Made) else None
    brought = origin if isinstance(origin, Brought) else None
    return EncoderRow(
        state=origin.state,
        encoder=origin.encoder,
        study=made.study if made else "",
        study_id=made.study_id if made else "",
        round=made.round if made else None,
        source=brought.source if brought else "",
        tags=catalogue.tags_of(origin.state),
        releases=catalogue.releases_of(origin.state),
        size=path.stat().st_size if path.is_file() else None,
        at=origin.at,
        newest=origin.state in newest,
    )


def _newest(catalogue: Catalogue) -> set[str]:
    return set({each.study: each.state for each in catalogue.made}.values())


def _schema(registry: Registry, state: str) -> Schema:
    if not registry.path(state).is_file():
        return Schema(())
    try:
        return Schema.from_json(read_stamp(registry.path(state)).get("schema", ""))
    except ValueError:
        raise Problem(state[:16], "does not say which arrays it holds", remedy="take it from a backup") from None


def _encoder(registry: Registry, state: str) -> Named:
    return {name: array for name, array in registry.views(state).items() if group_of(name) == ENCODER}
