"""From a backup to a site's folder: everything is checked in a folder beside it, then takes its place at once.

A backup may be damaged or forged. Its names must be those that a backup has, so none leads out of the folder; it holds
no links and nothing compressed, so it cannot grow; and every digest is compared before anything counts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyward_client.backup import FORM, MANIFEST, SECRETS, Manifest, Part, Told, copied, vault_secret
from polyward_client.site import Site, read_site
from polyward_client.trainer.vault.draft import make_private, whole_file
from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem
from polyward_shared.reading import validated

LARGEST_MANIFEST = 64 << 20
LARGEST_SETTINGS = 1 << 20
# what zipfile raises for a file that is not what it says
UNREADABLE = (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, OverflowError, struct.error)
VAULT = r"[0-9a-f]{64}/(aside/\d+-to-\d+/)?(round-\d+|final)\.safetensors"
NAMES = re.compile(
    r"site/(site\.toml|ca\.pem|vault\.key|vault\.passphrase)"
    r"|state/(approved|gate)/[A-Za-z0-9][\w.-]*\.jsonl?"
    r"|state/gate/node\.[a-z.]+"
    r"|state/trainer/[A-Za-z0-9][\w-]*\.key"
    r"|state/trainer/training/[0-9a-f]{64}\.jsonl"
    rf"|state/trainer/vault/(salt|{VAULT})"
)
PUBLIC = {"site/site.toml", "site/ca.pem"}


def restore(path: Path, backup: Path, *, told: Told = lambda done, of: None) -> tuple[Site, Manifest]:
    """Makes the site's folder from a backup; `site.toml` too, unless there is one at `path`, which then counts.

    All or nothing. Raises `Problem`: for a folder that holds a state already, and for a backup that is not whole.
    """
    with _opened(backup) as archive:
        manifest = _manifest(archive, backup)
        site = _site(path, archive, manifest, backup)
        _check_free(site, manifest)
        make_private(site.state.parent)
        for left in site.state.parent.glob(f".{site.state.name}.restoring-*"):
            shutil.rmtree(left)  # of a restore that was killed
        staging = Path(tempfile.mkdtemp(prefix=f".{site.state.name}.restoring-", dir=site.state.parent))
        try:
            _unpack(archive, manifest, staging, backup, told)
            _put_in_place(site, manifest, staging)
        finally:
            shutil.rmtree(staging)
    return site, manifest


@contextmanager
def _opened(backup: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(backup) as archive:
            yield archive
    except FileNotFoundError:
        raise Problem(str(backup), "there is no such file", remedy="check the path") from None
    except UNREADABLE:
        raise _unfit(backup, "is no backup, or damaged") from None


def _manifest(archive: zipfile.ZipFile, backup: Path) -> Manifest:
    """What the archive says to hold, which is then exactly what it holds, under names that may be."""
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) != len(archive.infolist()) or MANIFEST not in infos or infos[MANIFEST].file_size > LARGEST_MANIFEST:
        raise _unfit(backup, "is no backup of a site: it has no list of its parts, or a part twice")
    if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in infos.values()):
        raise _unfit(backup, "holds compressed parts, which no backup does")
    if any(not 0 <= info.header_offset < backup.stat().st_size for info in infos.values()):
        raise _unfit(backup, "is damaged: it names a part beyond its end")
    try:
        text = archive.read(MANIFEST).decode()
    except UnicodeDecodeError:
        raise _unfit(backup, "is damaged: its list of parts is no text") from None
    manifest = _read(text, backup)
    stated = {part.name: part.bytes for part in manifest.parts}
    if stated != {name: info.file_size for name, info in infos.items() if name != MANIFEST}:
        raise _unfit(backup, "is damaged: what it holds is not what its list says")
    if wrong := [name for name in stated if not NAMES.fullmatch(name)]:
        raise _unfit(backup, f"holds {wrong[0]!r}, which is no part of a site")
    if "site/site.toml" not in stated or sum(stated.values()) > backup.stat().st_size:
        raise _unfit(backup, "is damaged: a part is missing, or parts lie in one another")
    return manifest


def _read(text: str, backup: Path) -> Manifest:
    try:
        return validated(json.loads(text), Manifest, where=str(backup))
    except (ValueError, RecursionError):
        raise _unfit(backup, "is damaged: its list of parts cannot be read") from None


def _site(path: Path, archive: zipfile.ZipFile, manifest: Manifest, backup: Path) -> Site:
    """The site to restore: by the file at `path`, or by the backup's own, which names no place outside its folder."""
    if manifest.form != FORM:
        raise _unfit(backup, f"has the form {manifest.form!r}, which this version does not know")
    site = read_site(path) if path.exists() else _own_site(path, archive, backup)
    if site.name != manifest.site:
        raise Problem(
            str(backup),
            f"is a backup of {manifest.site!r}",
            expected=f"one of {site.name!r}, as {path} says",
            remedy="name the other site's file, or a path where there is none yet",
        )
    if site.state.is_symlink() or (site.state.exists() and (not site.state.is_dir() or any(site.state.iterdir()))):
        raise Problem(
            str(site.state),
            "holds a state already",
            expected="no such folder, or an empty one",
            remedy="move it away if the backup is to take its place",
        )
    return site


def _own_site(path: Path, archive: zipfile.ZipFile, backup: Path) -> Site:
    if not path.parent.is_dir():
        raise Problem(str(path.parent), "there is no such folder", remedy="make it first")
    if archive.getinfo("site/site.toml").file_size > LARGEST_SETTINGS:
        raise _unfit(backup, "holds a site.toml that is too large")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "site.toml"
        copy.write_bytes(archive.read("site/site.toml"))
        try:
            site = Site(path, read_site(copy).file)
        except Problem as problem:
            raise Problem(f"{backup}: site.toml", problem.found, remedy=f"put your own to {path} first") from None
    places = [site.state, site.ca, *(vault_secret(site, what) for what in SECRETS)]
    folder_of_site = path.resolve().parent
    if outside := [place for place in places if place and not place.resolve().is_relative_to(folder_of_site)]:
        raise Problem(
            str(backup),
            f"its site.toml names {outside[0]}, outside of {folder_of_site}",
            remedy=f"put site.toml to {path} yourself, look at it, and restore again",
        )
    return site


def _check_free(site: Site, manifest: Manifest) -> None:
    there = next(folder for folder in site.state.parents if folder.is_dir())
    need, free = sum(part.bytes for part in manifest.parts), shutil.disk_usage(there).free
    if need > free:
        raise Problem(
            str(there), f"has {free / 1e9:.2f} GB left", expected=f"{need / 1e9:.2f} GB", remedy="make room first"
        )


def _unpack(archive: zipfile.ZipFile, manifest: Manifest, staging: Path, backup: Path, told: Told) -> None:
    of, done = sum(part.bytes for part in manifest.parts), 0
    for part in manifest.parts:
        target = staging / part.name
        make_private(target.parent)
        with archive.open(part.name) as source, whole_file(target) as file:
            found = copied(source, file)
        if found != (part.bytes, part.sha256):
            raise _unfit(backup, f"is damaged: {part.name} is not what it was")
        os.utime(target, (part.changed, part.changed))
        done += part.bytes
        told(done, of)


def _put_in_place(site: Site, manifest: Manifest, staging: Path) -> None:
    """First what lies beside the site's folder, unless it is there, then the folder itself: from then on all counts."""
    state = staging / "state"
    make_private(state)
    made: list[Path] = []
    try:
        for part in manifest.parts:
            target = _target(site, part)
            if target is None:
                continue
            if target.is_relative_to(site.state):
                inside = state / target.relative_to(site.state)
                make_private(inside.parent)
                os.rename(staging / part.name, inside)
            elif not target.exists():
                make_private(target.parent)
                made.append(target)
                _copy(staging / part.name, target, 0o644 if part.name in PUBLIC else 0o600)
        os.rename(state, site.state)  # also over an empty folder
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise
    sync_folder(site.state.parent)


def _copy(source: Path, target: Path, mode: int) -> None:
    """Puts a copy there, whole or not at all. The draft has one name, so the next restore ends what a crash left."""
    draft = target.with_name(f".{target.name}.restoring")
    draft.unlink(missing_ok=True)
    with source.open("rb") as file, open(draft, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as copy:
        copied(file, copy)
        copy.flush()
        os.fsync(copy.fileno())
    os.replace(draft, target)
    sync_folder(target.parent)


def _target(site: Site, part: Part) -> Path | None:
    """Where a part belongs that is not in the site's folder in the archive; None for others."""
    if part.name == "site/site.toml":
        return site.path
    if part.name == "site/ca.pem":
        return site.ca.resolve()
    return next((vault_secret(site, what) for what in SECRETS if part.name == f"site/vault.{what}"), None)


def _unfit(backup: Path, found: str) -> Problem:
    return Problem(
        str(backup), found, expected="a backup that `polyward-node backup` wrote", remedy="take another copy of it"
    )
