"""One study's folder in the vault, and what all studies together take.

<study>/round-000007.safetensors   the personal arrays after round 7
<study>/final.safetensors          the whole models of the finished study
<study>/aside/003-to-000005/       files of later rounds than 5, from which `rollback` went back to it
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from polyward_client.site import Site
from polyward_client.trainer.vault.draft import drafts
from polyward_client.trainer.vault.entries import Entry, entry_parts, read_arrays, read_entry, write_entry
from polyward_client.trainer.vault.keys import Ring, open_ring, vault_salt
from polyward_client.trainer.vault.moves import finish_moves
from polyward_client.trainer.vault.seal import sealed_size
from polyward_shared.messages import Kept
from polyward_shared.problems import Code, Refused
from polyward_shared.states import Arrays
from polyward_shared.whole import make_private

KEPT_ROUNDS = 3
NEEDED_ROUNDS = 2  # a round that was not acknowledged is trained again from the one before
FINAL = "final.safetensors"
ROUND = re.compile(r"round-(\d{6,})\.safetensors")
STUDY = re.compile(r"[0-9a-f]{64}")


class Vault:
    """The folder of one study. `limit` is the most that all studies together may take, in bytes.

    One process at a time may write.
    """

    def __init__(
        self,
        folder: Path,
        study: str,
        *,
        ring: Ring | None = None,
        rounds: int = KEPT_ROUNDS,
        limit: float | None = None,
    ) -> None:
        self.folder = folder / study
        self.study = study
        self.ring = ring
        self.rounds = max(rounds, NEEDED_ROUNDS)
        self.limit = limit

    def keep(self, arrays: Arrays, *, round: int, state_digest: str, tasks: tuple[str, ...]) -> None:
        """Writes this round's personal arrays, then removes what is older than the rounds that are to be kept.

        Raises `Refused` with `Code.DISK`, before anything is written, where the limit would be exceeded.
        """
        self._write(self.round_path(round), arrays, round, state_digest, tasks, {})
        for old in self.surplus(round):
            old.unlink()

    def keep_final(
        self, arrays: Arrays, *, round: int, state_digest: str, tasks: tuple[str, ...], kept: Mapping[str, Kept]
    ) -> None:
        """Writes the whole models of the finished study, encoders included, and which of them each task keeps."""
        self._write(self.folder / FINAL, arrays, round, state_digest, tasks, kept)

    def expect(self, round: int) -> None:
        """Raises the refusal of `keep` before a round is trained, if it would take what the round before it takes."""
        if rounds := [number for number in self.kept_rounds() if number < round]:
            size = self.round_path(rounds[-1]).stat().st_size
            self._make_room(self.round_path(round), size, round)

    def latest_before(self, round: int) -> Entry | None:
        """The newest entry of an earlier round."""
        rounds = [number for number in self.kept_rounds() if number < round]
        return self.entry(self.round_path(rounds[-1])) if rounds else None

    def final(self) -> Entry | None:
        finish_moves(self.folder)
        path = self.folder / FINAL
        return self.entry(path) if path.exists() else None

    def at(self, round: int) -> Entry | None:
        """The entry of this round."""
        return self.entry(self.round_path(round)) if round in self.kept_rounds() else None

    def entry(self, path: Path) -> Entry:
        """What a file of this study says of itself. Raises `Problem`."""
        return read_entry(path, study=self.study, ring=self.ring)

    def arrays(self, entry: Entry) -> Arrays:
        """The entry's arrays, checked against the digest that was kept with them. Raises `Problem`."""
        return read_arrays(entry.path, study=self.study, ring=self.ring)

    def kept_rounds(self) -> list[int]:
        """The rounds from which the site can go on, in order."""
        finish_moves(self.folder)
        found = [ROUND.fullmatch(path.name) for path in self.folder.glob("round-*.safetensors")]
        return sorted(int(match[1]) for match in found if match)

    def files(self) -> list[Path]:
        """All files with arrays: those of rounds, the final one, and those that were set aside."""
        finish_moves(self.folder)
        found = [*self.folder.glob("*.safetensors"), *self.folder.glob("aside/*/*.safetensors")]
        return sorted(found, key=lambda path: (path.parent != self.folder, path.parent.name, path.name == FINAL, path))

    def surplus(self, round: int | None = None) -> list[Path]:
        """Files of rounds beyond those that are to be kept, once `round` is there; newer ones than it stay."""
        rounds = [number for number in self.kept_rounds() if round is None or number < round]
        stays = self.rounds if round is None else self.rounds - 1
        return [self.round_path(number) for number in rounds[:-stays]]

    def _write(
        self,
        path: Path,
        arrays: Arrays,
        round: int,
        state_digest: str,
        tasks: tuple[str, ...],
        kept: Mapping[str, Kept],
    ) -> None:
        parts = entry_parts(arrays, study=self.study, round=round, state_digest=state_digest, tasks=tasks, kept=kept)
        length = sum(map(len, parts))
        for draft in drafts(self.folder):  # one of before there was a key is not sealed
            draft.unlink()
        self._make_room(path, sealed_size(length) if self.ring else length, round)
        make_private(self.folder)
        key = self.ring.newest(vault_salt(self.folder.parent)) if self.ring else None
        write_entry(path, parts, length=length, study=self.study, key=key)

    def _make_room(self, path: Path, size: int, round: int) -> None:
        """Lets go what is older than the rounds to be kept, if the limit asks for it; more is a person's decision."""
        if self.limit is None:
            return
        vault = self.folder.parent
        replaced = path.stat().st_size if path.exists() else 0
        for old in [*self.surplus(round), *other_surplus(vault, self)]:
            if used(vault) - replaced + size > self.limit:
                old.unlink()
        if (needed := used(vault) - replaced + size) > self.limit:
            raise Refused(
                Code.DISK,
                f"the vault would take {needed / 1e9:.3f} GB, and [vault] gigabytes allows {self.limit / 1e9:.3f}: "
                "allow more, keep fewer rounds, or look at `polyward-node vault prune`",
            )

    def round_path(self, round: int) -> Path:
        return self.folder / f"round-{round:06}.safetensors"


def open_vault(site: Site, study: str) -> Vault:
    """The study's vault as the site's file says to keep it. Raises `Problem` for a key that cannot be used."""
    kept = site.file.vault
    limit = None if kept.gigabytes is None else kept.gigabytes * 1e9
    return Vault(site.vault, study, ring=open_ring(site), rounds=kept.rounds, limit=limit)


def keeps_sealed(site: Site) -> bool:
    """Whether nothing that was learnt from images, and no image, may lie here in clear."""
    return bool(site.file.vault.key or site.file.vault.passphrase)


def studies_in(folder: Path) -> list[str]:
    """The digests of the studies that have something in the vault."""
    # a link may lead anywhere, and an administrator's commands would follow it
    folders = (path for path in folder.glob("*") if path.is_dir() and not path.is_symlink())
    return sorted(path.name for path in folders if STUDY.fullmatch(path.name))


def used(folder: Path) -> int:
    """What the vault takes, in bytes, with what was set aside."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def other_surplus(folder: Path, vault: Vault) -> list[Path]:
    """Files of the other studies beyond the rounds that are to be kept."""
    others = (Vault(folder, study, rounds=vault.rounds) for study in studies_in(folder) if study != vault.study)
    return [path for other in others for path in other.surplus()]
