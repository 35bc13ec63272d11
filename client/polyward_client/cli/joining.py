"""`polyward-node`: joining a federation."""

from __future__ import annotations

from polyward_client.cli.app import JOIN, SiteArgument, app
from polyward_client.site import read_site
from polyward_shared import pki
from polyward_shared.commands import out


@app.command(rich_help_panel=JOIN)
def key(site: SiteArgument) -> None:
    """Make this node's key and show what the coordinator needs."""
    place = read_site(site)
    public = place.gate / "node.pub"
    if not place.key.exists():
        pki.write_secret(place.key, pki.key_to_pem(pki.new_key()))
    text = pki.public_pem(pki.read_key(place.key)).decode()
    public.write_text(text, encoding="utf-8")  # again each time: it may have been lost
    out.print(f"[bold]{place.name}[/]: public key in {public}")
    out.print(f"fingerprint [bold]{pki.fingerprint(text)}[/]  (compare it by telephone)")
    out.print(f"the coordinator runs: polyward-hub register HUB {place.name} {public.name}")
