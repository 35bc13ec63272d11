"""`polyward-node`: joining a federation."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.status import Status

from polyward_client.cli.app import JOIN, SiteArgument, app
from polyward_client.node import run_node
from polyward_client.site import Site, read_site
from polyward_shared import pki
from polyward_shared.commands import out, talk
from polyward_shared.invitation import read_invitation
from polyward_shared.problems import Problem
from polyward_shared.supervise import holder

LARGEST_FILE = 64 * 1024


@app.command(rich_help_panel=JOIN)
def enrol(
    invitation: Annotated[str, typer.Argument(help="the file that holds it, or - to paste it", metavar="INVITATION")],
    folder: Annotated[
        Path | None, typer.Option(help="where the site's file and all that it keeps will lie; its name by default")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="go on and work for the hub until stopped")] = False,
    wait: Annotated[float, typer.Option(help="minutes to wait for the coordinator's approval", min=0)] = 30.0,
) -> None:
    """Join a federation: make this node's key, get its certificate, write the site's file. Safe to repeat."""
    from polyward_client.enrolment import Asking, prepare
    from polyward_client.enrolment import enrol as ask

    invited = read_invitation(_text(invitation), where=invitation if invitation != "-" else "the invitation")
    site = prepare(invited, folder or Path(invited.site))
    shown = pki.fingerprint(pki.public_pem(pki.read_key(site.key)).decode())
    out.print(f"[bold]{site.name}[/] at {invited.address}; this node's key has the fingerprint")
    out.print(f"\n    [bold]{shown}[/]\n", highlight=False)
    with Status("asking the hub for a certificate", console=talk) as status:

        def tell(asking: Asking) -> None:
            waiting = "waiting for the coordinator, who compares the fingerprint by telephone and approves it"
            if asking.state == "pending" and status.status != waiting:
                status.update(waiting)
                if not talk.is_terminal:  # a log shows no status line
                    talk.print(waiting, soft_wrap=True)

        certificate = ask(invited, site, tell, patience=60 * wait)
    _make_vault_key(site)
    until = certificate.not_valid_after_utc
    out.print(f"[green]enrolled[/]; the certificate is good until {until:%Y-%m-%d %H:%M} UTC and renews itself")
    out.print(
        f"next: complete {site.path}, then polyward-node manifest, preflight, check, approve and run", soft_wrap=True
    )
    if run:
        run_node(read_site(site.path))


@app.command(rich_help_panel=JOIN)
def rotate(site: SiteArgument) -> None:
    """Give this node a new key. Only while it does not run; the hub forgets the old one at once."""
    from polyward_client.gate.rotation import rotate_key

    place = read_site(site)
    if held := holder(place.lock):
        raise Problem(place.name, f"is running ({held})", remedy="stop it first: it uses the old key")
    certificate = rotate_key(place)
    out.print(f"[green]rotated[/]; fingerprint [bold]{_shown(place)}[/]")
    out.print(f"the certificate is good until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")


@app.command(rich_help_panel=JOIN)
def fingerprint(site: SiteArgument) -> None:
    """Show the fingerprint of this node's key, to compare by telephone, and until when its certificate is good."""
    place = read_site(site)
    out.print(f"[bold]{place.name}[/]: {_shown(place)}", highlight=False)
    left = pki.read_certificate(place.certificate).not_valid_after_utc.timestamp() - time.time()
    out.print(f"certificate: {'good for' if left > 0 else 'ran out'} {abs(left) / 86400:.1f} days")


def _make_vault_key(site: Site) -> None:
    """The key that site.toml names, for a vault that holds nothing yet: all that will lie there is sealed."""
    from polyward_client.trainer.vault import new_vault_key

    key = site.path.parent / site.file.vault.key
    if site.file.vault.key and not key.exists() and not site.vault.exists():
        if not os.access(next(folder for folder in key.parents if folder.exists()), os.W_OK):
            out.print("the vault's key is made where the vault is: polyward-node vault key")  # a gate's container
            return
        new_vault_key(key)
        out.print(f"the vault's key is {key}; without it nothing that was trained here can be read: keep a copy")


def _text(invitation: str) -> str:
    if invitation == "-":
        return typer.prompt("invitation", hide_input=True) if sys.stdin.isatty() else sys.stdin.read(LARGEST_FILE)
    try:
        with Path(invitation).open(encoding="utf-8") as file:
            return file.read(LARGEST_FILE)
    except (OSError, UnicodeDecodeError, ValueError):
        raise Problem(
            "the invitation's file",
            "cannot be read",
            expected="the path of a file that holds it",
            remedy="save it to a file that only you can read, or give - and paste it: arguments are seen by all users",
        ) from None


def _shown(place: Site) -> str:
    return pki.fingerprint(pki.public_pem(pki.read_key(place.key)).decode())
