"""`polyward-hub`: encoders that leave the registry or come into it, and releases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from polyward_server.cli.app import ENCODERS, HubArgument, app
from polyward_server.cli.encoders import JsonOption, NameArgument, open_registry, origin_of
from polyward_server.cli.naming import ACTOR
from polyward_server.hub import Hub
from polyward_server.registry.catalogue import read_catalogue
from polyward_server.registry.export import export
from polyward_server.registry.imports import bring
from polyward_server.registry.lineage import lineage
from polyward_server.registry.release import Signer, read_released, release, write_release
from polyward_shared import pki
from polyward_shared.commands import out, talk
from polyward_shared.releases import check_release
from polyward_shared.statements import shown

SitesOption = Annotated[bool, typer.Option("--sites", help="name the sites in it; left out otherwise")]
AuthorityOption = Annotated[Path | None, typer.Option(help="ca.pem of the hub that you trust")]
FingerprintOption = Annotated[str, typer.Option(help="SHA-256 of that file's certificate, told by somebody you trust")]


@app.command("export", rich_help_panel=ENCODERS)
def export_command(
    hub: HubArgument,
    name: NameArgument,
    file: Annotated[Path, typer.Argument(help="a new safetensors file", metavar="FILE")],
    whole: Annotated[bool, typer.Option("--whole", help="with all that crossed, such as shared branches")] = False,
    sites: SitesOption = False,
    force: Annotated[bool, typer.Option("--force", help="replace the file if it exists")] = False,
) -> None:
    """Write an encoder as a safetensors file that says where it comes from."""
    ledger, registry = open_registry(Hub(hub))
    catalogue = read_catalogue(ledger, registry)
    told = lineage(ledger, catalogue, catalogue.named(name))
    digest = export(registry, told, file, whole=whole, sites=sites, force=force)
    out.print(f"{digest} in {escape(str(file))}", highlight=False, soft_wrap=True)


@app.command("import", rich_help_panel=ENCODERS)
def import_command(
    hub: HubArgument,
    encoder: Annotated[Path, typer.Argument(help="a safetensors file of `encoder.` arrays")],
    volumes: Annotated[bool, typer.Option(help="inflate an encoder of slices for a study of volumes")] = False,
    authority: AuthorityOption = None,
    fingerprint: FingerprintOption = "",
) -> None:
    """Put an encoder into the registry; its digest goes into a study as encoder.start.

    If a signed release lies beside the file, it is checked, and its lineage is kept.
    """
    place = Hub(hub)
    ledger, registry = open_registry(place)
    state, stated = bring(
        ledger,
        registry,
        encoder,
        ours=pki.read_certificate(place.ca),
        authority=pki.read_certificate(authority) if authority else None,
        fingerprint=fingerprint,
        volumes=volumes,
        actor=ACTOR,
    )
    out.print(state, highlight=False, soft_wrap=True)
    if stated is not None:
        talk.print(f"the release {escape(stated.name)}, signed by {escape(stated.hub)}", highlight=False)


@app.command("release", rich_help_panel=ENCODERS)
def release_command(
    hub: HubArgument,
    name: NameArgument,
    new: Annotated[str, typer.Argument(help="its name for ever, such as breast-1.0", metavar="RELEASE")],
    notes: Annotated[str, typer.Option(help="what users should know")] = "",
    folder: Annotated[
        Path | None, typer.Option(help="for the two files; releases in the hub's folder otherwise")
    ] = None,
    sites: SitesOption = False,
) -> None:
    """Sign an encoder with what is known of it. Others check the two files with `verify-release`."""
    place = Hub(hub)
    ledger, registry = open_registry(place)
    origin = origin_of(ledger, registry, name)
    told = lineage(ledger, read_catalogue(ledger, registry), origin.state)
    signer = Signer(
        place.file.name,
        pki.read_key(place.key),
        pki.read_certificate(place.certificate),
        pki.read_certificate(place.ca),
    )
    signed = release(ledger, registry, told, origin, new, signer, notes=notes, sites=sites, actor=ACTOR)
    for path in write_release(registry, origin.state, signed, folder or place.folder / "releases"):
        out.print(str(path), highlight=False, markup=False, soft_wrap=True)
    talk.print(
        f"to trust it, others need the fingerprint {pki.authority_fingerprint(signer.authority)}", soft_wrap=True
    )


@app.command("write-release", rich_help_panel=ENCODERS)
def write_release_command(
    hub: HubArgument,
    name: Annotated[str, typer.Argument(help="its name", metavar="RELEASE")],
    folder: Annotated[Path, typer.Argument(help="for the two files", metavar="FOLDER")],
) -> None:
    """Write the two files of a release again, byte for byte."""
    ledger, registry = open_registry(Hub(hub))
    state, signed = read_released(ledger, name)
    for path in write_release(registry, state, signed, folder):
        out.print(str(path), highlight=False, markup=False, soft_wrap=True)


@app.command("verify-release", rich_help_panel=ENCODERS)
def verify_release_command(
    file: Annotated[Path, typer.Argument(help="one of its two files; the other lies beside it", metavar="FILE")],
    authority: AuthorityOption = None,
    fingerprint: FingerprintOption = "",
    every: Annotated[bool, typer.Option("--all", help="every figure, not only the first of each task")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a release of any hub: who signed it, and that not a byte has changed. Needs no hub."""
    trusted = pki.read_certificate(authority) if authority else None
    checked = check_release(file, authority=trusted, fingerprint=fingerprint)
    if as_json:
        print(checked.release.statement.model_dump_json(indent=1))
        return
    for part in shown(checked, every=every):
        out.print(part, highlight=False)
