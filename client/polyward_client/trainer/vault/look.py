"""What is in a site's vault, what of it is damaged, and what may go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from polyward_client.site import Site
from polyward_client.trainer.vault.draft import drafts
from polyward_client.trainer.vault.entries import Entry
from polyward_client.trainer.vault.seal import is_sealed
from polyward_client.trainer.vault.vault import FINAL, Vault, open_vault, studies_in
from polyward_shared.problems import Problem

Told = Callable[[int, int], None]  # files done, of how many


@dataclass(frozen=True, slots=True)
class Kept:
    """One file: what it says of itself, or the sentence why it cannot be read."""

    study: str
    path: Path
    bytes: int
    when: datetime
    sealed: bool
    aside: bool
    entry: Entry | None
    problem: str = ""

    @property
    def final(self) -> bool:
        return self.path.name == FINAL


def history(site: Site, study: str | None = None) -> list[Kept]:
    """All files of the vault, or of one study. Raises `Problem` for a key that cannot be used."""
    found = []
    for vault in _vaults(site, study):
        for path in vault.files():
            info = path.stat()
            entry, problem = None, ""
            try:
                entry = vault.entry(path)
            except Problem as caught:
                problem = caught.found
            when = datetime.fromtimestamp(info.st_mtime, UTC)
            aside = path.parent != vault.folder
            found.append(Kept(vault.study, path, info.st_size, when, is_sealed(path), aside, entry, problem))
    return found


def verify(site: Site, told: Told = lambda done, of: None) -> Iterator[tuple[Path, str]]:
    """Reads every file whole; those that cannot be read, and what should not lie there, each with the reason."""
    vaults = _vaults(site, None)
    files = [(vault, path) for vault in vaults for path in vault.files()]
    for done, (vault, path) in enumerate(files):
        told(done, len(files))
        try:
            vault.arrays(vault.entry(path))
            plain = vault.ring is not None and not is_sealed(path)
        except Problem as problem:
            yield path, problem.found
        except FileNotFoundError:  # the trainer, which may run, let it go
            continue
        else:
            if plain:
                yield path, "is not sealed, though the vault has a key; `polyward-node vault rotate` seals it"
    told(len(files), len(files))


def prunable(site: Site, *, finished: bool, aside: bool, gone: frozenset[str] = frozenset()) -> list[Path]:
    """What is older than the rounds to be kept, and, if wanted, more.

    With `finished` the rounds of studies that have ended here, of which the final models stay; with `aside` what was
    set aside; of the studies in `gone`, everything.
    """
    found: list[Path] = []
    for vault in _vaults(site, None):
        files = vault.files()
        rounds = [path for path in files if path.parent == vault.folder and path.name != FINAL]
        ended = finished and (vault.folder / FINAL).exists()
        wanted = {
            *vault.surplus(),
            *(rounds if ended else ()),
            *(path for path in files if aside and path.parent != vault.folder),
            *(files if vault.study in gone else ()),
        }
        found += [*(path for path in files if path in wanted), *drafts(vault.folder)]
    return found


def remove(site: Site, paths: list[Path]) -> None:
    """Removes files of the vault, and the folders that they leave empty."""
    for path in paths:
        path.unlink()
        for folder in path.relative_to(site.vault).parents:
            if folder.parts and not any((site.vault / folder).iterdir()):
                (site.vault / folder).rmdir()


def study_in(site: Site, start: str) -> str:
    """The study in the vault whose digest begins so. Raises `Problem` unless it is one."""
    studies = studies_in(site.vault)
    found = [study for study in studies if study.startswith(start)]
    if len(found) != 1:
        raise Problem(
            str(site.vault),
            f"{len(found) or 'no'} studies begin with {start!r}",
            expected=f"one of {', '.join(study[:12] for study in studies)}" if studies else "a study trained here",
            remedy="take the digest's beginning from `polyward-node vault history`",
        )
    return found[0]


def _vaults(site: Site, study: str | None) -> list[Vault]:
    return [open_vault(site, name) for name in studies_in(site.vault) if study in {None, name}]
