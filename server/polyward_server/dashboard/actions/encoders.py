"""The registry: names that people give to encoders, signed releases, and files to take away."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import Field
from starlette.background import BackgroundTask

from polyward_server.dashboard.answers import REFUSALS, Said, as_conflict
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import Admin, Coordinator, Viewer
from polyward_server.registry import tags
from polyward_server.registry.catalogue import Brought, Made, read_catalogue
from polyward_server.registry.export import export
from polyward_server.registry.lineage import Lineage, lineage
from polyward_server.registry.release import Signer, read_released, release
from polyward_server.views.encoders import ComparisonPage, EncoderPage, read_comparison, read_encoder_page
from polyward_shared import pki
from polyward_shared.reading import Frozen
from polyward_shared.releases import STATEMENT
from polyward_shared.study import Name

router = APIRouter(tags=["registry"], responses=REFUSALS)

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Called = Annotated[str, Query(min_length=1, max_length=64, description="a digest, its beginning, a tag or a release")]


class Tagged(Frozen):
    """A name for a state. `move` takes it from the state that has it now."""

    state: Digest
    tag: Name
    move: bool = False


class Untagged(Frozen):
    """A name that is to go."""

    tag: Name


class Released(Frozen):
    """What a release is to say; `sites` names them in it."""

    state: Digest
    name: Name
    notes: Annotated[str, Field(max_length=4000)] = ""
    sites: bool = False


@router.get("/api/encoder")
def encoder(request: Request, _: Viewer, name: Called) -> EncoderPage:
    """One encoder, with its ancestry."""
    desk: Desk = request.app.state.desk
    return read_encoder_page(desk.ledger, desk.registry, name)


@router.get("/api/comparison")
def comparison(request: Request, _: Viewer, a: Called, b: Called) -> ComparisonPage:
    """Two encoders, array by array."""
    desk: Desk = request.app.state.desk
    return read_comparison(desk.ledger, desk.registry, a, b)


@router.post("/registry/tag")
def tag(request: Request, person: Coordinator, tagged: Tagged) -> Said:
    """Gives a state a name."""
    desk: Desk = request.app.state.desk
    with as_conflict():
        tags.tag(desk.ledger, _told(desk, tagged.state)[0], tagged.tag, actor=person.name, move=tagged.move)
    return Said(said=f"tagged {tagged.tag}")


@router.post("/registry/untag")
def untag(request: Request, person: Coordinator, untagged: Untagged) -> Said:
    """Takes a name away."""
    with as_conflict():
        tags.untag(request.app.state.desk.ledger, untagged.tag, actor=person.name)
    return Said(said=f"{untagged.tag} is nobody's tag now")


@router.post("/registry/release")
def release_encoder(request: Request, person: Admin, wanted: Released) -> Said:
    """Signs a statement about an encoder, for ever."""
    desk: Desk = request.app.state.desk
    with as_conflict():
        origin, told = _told(desk, wanted.state)
        release(
            desk.ledger,
            desk.registry,
            told,
            origin,
            wanted.name,
            _signer(desk),
            notes=wanted.notes,
            sites=wanted.sites,
            actor=person.name,
        )
    return Said(said=f"released as {wanted.name}")


@router.get("/registry/{state}/file", response_class=FileResponse)
def file(request: Request, _: Coordinator, state: str) -> FileResponse:
    """The encoder alone, as safetensors; it says where it comes from and names no site."""
    desk: Desk = request.app.state.desk
    folder = tempfile.TemporaryDirectory(prefix="polyward-export-")
    try:
        origin, told = _told(desk, state)
        path = Path(folder.name) / f"encoder-{origin.state[:12]}.safetensors"
        export(desk.registry, told, path)
    except BaseException:
        folder.cleanup()
        raise
    return FileResponse(
        path, media_type="application/octet-stream", filename=path.name, background=BackgroundTask(folder.cleanup)
    )


@router.get("/registry/releases/{name}", response_class=Response)
def statement(request: Request, _: Viewer, name: str) -> Response:
    """A release's signed statement."""
    signed = read_released(request.app.state.desk.ledger, name)[1]
    headers = {"content-disposition": f'attachment; filename="{signed.statement.name}{STATEMENT}"'}
    return Response(signed.model_dump_json(indent=1), media_type="application/json", headers=headers)


def _told(desk: Desk, name: str) -> tuple[Made | Brought, Lineage]:
    catalogue = read_catalogue(desk.ledger, desk.registry)
    state = catalogue.named(name)
    return catalogue.origins[state], lineage(desk.ledger, catalogue, state)


def _signer(desk: Desk) -> Signer:
    hub = desk.hub
    certificates = (pki.read_certificate(path) for path in (hub.certificate, hub.ca))
    return Signer(hub.file.name, pki.read_key(hub.key), *certificates)
