"""Writing the bundle: what is the same for every site as it is, the rest filled in; whole or not at all."""

from __future__ import annotations

import re
import shutil
import string
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from polyward_server.hub import Hub
from polyward_shared.chain import sync_folder
from polyward_shared.commands import writing
from polyward_shared.invitation import Invitation, written
from polyward_shared.pki import write_secret
from polyward_shared.problems import Problem
from polyward_shared.whole import write_whole

TEXTS = files("polyward_server.bundle")
AS_THEY_ARE = ("compose.yaml", "compose.gpu.yaml")
FILLED_IN = {"site.toml": "site.toml", "README.md": "README.md", "settings.env": ".env"}  # of the text -> in the bundle
# an engine that finds no folder to mount makes one of root's
FOLDERS = ("data", "studies", "results", *(f"state/{part}" for part in ("approved", "gate", "trainer", "port", "logs")))
INVITATION = "invitation"
NOT_OF_PROJECTS = re.compile(r"[^a-z0-9_-]+")  # compose's names of projects


class Text(string.Template):
    """`@name` stands for a value: both shells and compose have the dollar for themselves."""

    delimiter = "@"


def write_bundle(folder: Path, hub: Hub, site: str, invite: Callable[[], Invitation]) -> Invitation:
    """Makes the site's bundle, with the invitation that `invite` makes when all the rest is written.

    It appears at `folder` complete, for this user alone, or not at all. Raises `Problem` if something is there.
    """
    if folder.exists() or folder.is_symlink():
        raise Problem(str(folder), "exists already", remedy="choose another name with --output")
    with writing():
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _fill(draft, hub, site)
            invitation = invite()
            write_secret(draft / INVITATION, written(invitation).encode() + b"\n")
            draft.rename(folder)
        except BaseException:
            shutil.rmtree(draft)
            raise
        sync_folder(folder.parent)
    return invitation


def _fill(folder: Path, hub: Hub, site: str) -> None:
    values = _values(hub, site)
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, mode=0o700)
    (folder / "state").chmod(0o700)
    write_whole(folder / "state" / "run.lock", b"")  # it is mounted by itself, so it must be there
    write_whole(folder / "ca.pem", hub.ca.read_bytes(), mode=0o644)
    for name in AS_THEY_ARE:
        write_whole(folder / name, (TEXTS / name).read_bytes(), mode=0o644)
    for text, name in FILLED_IN.items():
        filled = Text((TEXTS / text).read_text(encoding="utf-8")).substitute(values)
        write_whole(folder / name, filled.encode(), mode=0o644)


def _values(hub: Hub, site: str) -> dict[str, str]:
    """What the texts name."""
    orders, control = hub.addresses
    opens = {orders: "orders, updates, enrolment", control: "progress, commands, renewal of certificates"}
    if orders == control:
        opens = {orders: "everything, through the hub's gateway"}
    rows = [f"| `{address}`, TCP | out | {what}; TLS, ended at the hub alone |" for address, what in opens.items()]
    return {
        "site": site,
        "project": "polyward-" + NOT_OF_PROJECTS.sub("-", site.lower()),
        "hub_name": " ".join(re.sub(r"[^\w .,()-]", " ", hub.file.name).split()),  # a line of text, without markup
        "address": orders,
        "control": control,
        "port": orders.rpartition(":")[2],
        "opens": "\n".join(rows),
        "hosts": " and ".join(f"`{address}`" for address in opens),
        "version": version("polyward"),
    }
