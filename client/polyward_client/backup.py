"""A site's backup: one file with what cannot be made again, and the digest of every part of it.

Its parts lie under `site/` (what lies beside `site.toml`) and `state/` (what lies in the site's folder). The vault is
copied as it is on the disk, so what is sealed stays sealed. Keys are in it only if somebody asks for them.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyward_client.site import Site
from polyward_client.trainer.vault.moves import finish_moves
from polyward_client.trainer.vault.vault import studies_in
from polyward_shared.archive import Contents, Kind, Told, add_contents, add_file, stated
from polyward_shared.problems import Problem
from polyward_shared.whole import whole_file

VAULT = r"[0-9a-f]{64}/(aside/\d+-to-\d+/)?(round-\d+|final)\.safetensors"
SITE = Kind(
    form="polyward backup 1",
    whose="site",
    command="polyward-node backup",
    names=re.compile(
        r"site/(site\.toml|ca\.pem|vault\.key|vault\.passphrase)"
        r"|state/(approved|gate)/[A-Za-z0-9][\w.-]*\.jsonl?"
        r"|state/gate/node\.[a-z.]+"
        r"|state/trainer/[A-Za-z0-9][\w-]*\.key"
        r"|state/trainer/training/[0-9a-f]{64}\.jsonl"
        rf"|state/trainer/vault/(salt|{VAULT})"
    ),
    needed="site/site.toml",
)
Secret = Literal["key", "passphrase"]
SECRETS: tuple[Secret, ...] = ("key", "passphrase")


class Manifest(Contents):
    """What an archive holds, and of which site."""

    site: str


@dataclass(frozen=True, slots=True)
class Source:
    """A file that goes into the archive."""

    name: str
    path: Path
    key: bool = False


def sources(site: Site, *, with_keys: bool) -> list[Source]:
    """The files of a backup: settings, approvals, what was sent, vault, journal. Raises `Problem` for a link."""
    for study in studies_in(site.vault):
        finish_moves(site.vault / study)  # else a file could be in neither of its places
    kept = [*site.approved.glob("*.json*"), *site.gate.glob("*.json*"), *site.journal.glob("*.jsonl")]
    kept += [*site.vault.glob("salt"), *site.vault.rglob("*.safetensors")]
    found = [Source(_in_state(site, path), path) for path in sorted(kept) if path != site.status]
    if with_keys:
        found += key_files(site)
    for source in found:
        if not stat.S_ISREG(source.path.lstat().st_mode):
            raise Problem(str(source.path), "is a link or no file", remedy="put the file itself there")
    return [
        Source("site/site.toml", site.path),
        *([Source("site/ca.pem", site.ca)] if site.ca.is_file() else ()),
        *found,
    ]


def key_files(site: Site) -> list[Source]:
    """The site's secrets: the node's key and certificate, the vault's key or passphrase, others of the trainer."""
    named = [(what, vault_secret(site, what)) for what in SECRETS]
    found = [Source(f"site/vault.{what}", path, key=True) for what, path in named if path and path.is_file()]
    taken = {source.path for source in found}
    others = sorted([*site.gate.glob("node.*"), *site.trainer.glob("*.key")])
    return [*found, *(Source(_in_state(site, path), path, key=True) for path in others if path.resolve() not in taken)]


def vault_secret(site: Site, what: Secret) -> Path | None:
    """Where the file lies that opens the vault, or None where `site.toml` names none of this sort."""
    named = site.file.vault.key if what == "key" else site.file.vault.passphrase
    return (site.path.parent / os.path.expandvars(named)).resolve() if named else None


def write_backup(site: Site, target: Path, *, with_keys: bool, told: Told = lambda done, of: None) -> Manifest:
    """Writes the archive, whole or not at all, for this user alone. Raises `Problem` where there is a file already."""
    if target.exists():
        raise Problem(str(target), "is there already", expected="a new file", remedy="name another one")
    if not target.resolve().parent.is_dir():
        raise Problem(str(target.parent), "there is no such folder", remedy="make it, or name another one")
    wanted = sources(site, with_keys=with_keys)
    of, done = sum(source.path.stat().st_size for source in wanted), 0
    parts = []
    with whole_file(target.resolve()) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for source in wanted:
            part = add_file(archive, source.name, source.path)
            parts.append(part)
            done += part.bytes
            told(done, of)
        manifest = Manifest(site=site.name, **stated(SITE, parts))
        add_contents(archive, manifest)
    return manifest


def _in_state(site: Site, path: Path) -> str:
    return f"state/{path.relative_to(site.state).as_posix()}"
