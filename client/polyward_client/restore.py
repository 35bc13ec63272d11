"""From a backup to a site's folder: everything is checked in a folder beside it, then takes its place at once.

A backup may be damaged or forged: `polyward_shared.archive` says what it is held to.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from polyward_client.backup import SECRETS, SITE, Manifest, vault_secret
from polyward_client.site import Site, read_site
from polyward_shared.archive import Part, Told, contents_of, copied, opened, unpack
from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem
from polyward_shared.whole import make_private

LARGEST_SETTINGS = 1 << 20
PUBLIC = {"site/site.toml", "site/ca.pem"}


def restore(path: Path, backup: Path, *, told: Told = lambda done, of: None) -> tuple[Site, Manifest]:
    """Makes the site's folder from a backup; `site.toml` too, unless there is one at `path`, which then counts.

    All or nothing. Raises `Problem`: for a folder that holds a state already, and for a backup that is not whole.
    """
    with opened(backup, SITE) as archive:
        manifest = contents_of(archive, backup, SITE, Manifest)
        site = _site(path, archive, manifest, backup)
        _check_free(site, manifest)
        make_private(site.state.parent)
        for left in site.state.parent.glob(f".{site.state.name}.restoring-*"):
            shutil.rmtree(left)  # of a restore that was killed
        staging = Path(tempfile.mkdtemp(prefix=f".{site.state.name}.restoring-", dir=site.state.parent))
        try:
            unpack(archive, manifest, staging, backup, SITE, told)
            _put_in_place(site, manifest, staging)
        finally:
            shutil.rmtree(staging)
    return site, manifest


def _site(path: Path, archive: zipfile.ZipFile, manifest: Manifest, backup: Path) -> Site:
    """The site to restore: by the file at `path`, or by the backup's own, which names no place outside its folder."""
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
        raise SITE.unfit(backup, "holds a site.toml that is too large")
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
    need, free = manifest.bytes, shutil.disk_usage(there).free
    if need > free:
        raise Problem(
            str(there), f"has {free / 1e9:.2f} GB left", expected=f"{need / 1e9:.2f} GB", remedy="make room first"
        )


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
