"""A new key, and everything sealed anew with it.

The new key is first added to the file, above the old one, then the vault's files follow one by one, and the old key
goes once no file needs it. Killed in between, the node still opens everything, and the next `rotate` goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from polyward_client.site import Site
from polyward_client.trainer.vault.draft import drafts
from polyward_client.trainer.vault.entries import reseal
from polyward_client.trainer.vault.keys import SECRET_BYTES, Ring, open_ring, read_passphrases, rewrite, vault_salt
from polyward_client.trainer.vault.seal import sealed_with
from polyward_client.trainer.vault.vault import open_vault, studies_in
from polyward_shared.problems import Problem

Told = Callable[[int, int], None]  # files done, of how many


def rotate(site: Site, *, passphrase: Path | None = None, told: Told = lambda done, of: None) -> int:
    """Seals every file of the vault with a new key, or with the passphrase in a file; how many it had to seal.

    Raises `Problem`; then the old key is still there, and so is every file.
    """
    ring = _with_new(site, passphrase)
    key = ring.newest(vault_salt(site.vault))
    vaults = [open_vault(site, study) for study in studies_in(site.vault)]
    files = [(vault, path) for vault in vaults for path in vault.files()]
    sealed, unread = 0, []
    for done, (vault, path) in enumerate(files):
        told(done, len(files))
        try:
            if not sealed_with(path, key):
                reseal(path, study=vault.study, ring=vault.ring, key=key)
                sealed += 1
        except Problem as problem:
            unread.append(str(problem))
    for draft in (draft for vault in vaults for draft in drafts(vault.folder)):
        draft.unlink()
    told(len(files), len(files))
    if unread:
        raise Problem(
            str(ring.path),
            f"keeps the old {ring.noun} too, for {len(unread)} of {len(files)} files could not be read:\n  "
            + "\n  ".join(unread),
            remedy="mend or move away the files that are named, and run this again",
        )
    if len(ring.secrets) > 1:
        rewrite(ring, ring.secrets[:1])
    return sealed


def _with_new(site: Site, passphrase: Path | None) -> Ring:
    """The ring with what is new in front, on the disk; as it is where an earlier rotation did not end."""
    ring = open_ring(site)
    if ring is None:
        raise Problem(
            str(site.path),
            "vault: neither key nor passphrase is set, so nothing is sealed",
            remedy="make a key with `polyward-node vault key SITE FILE`, and name it in site.toml",
        )
    if ring.passphrases:
        return _with_passphrase(ring, passphrase)
    if passphrase is not None:
        raise Problem("--passphrase", f"the vault is sealed with the key in {ring.path}", remedy="leave it out")
    return ring if len(ring.secrets) > 1 else rewrite(ring, (os.urandom(SECRET_BYTES), *ring.secrets))


def _with_passphrase(ring: Ring, passphrase: Path | None) -> Ring:
    if passphrase is None and len(ring.secrets) == 1:
        raise Problem(
            str(ring.path),
            "holds one passphrase",
            expected="a new one to seal with",
            remedy="write it into a file, `chmod 600` it, and name that with --passphrase",
        )
    new = ring.secrets[0] if passphrase is None else read_passphrases(passphrase).secrets[0]
    return ring if new == ring.secrets[0] else rewrite(ring, (new, *ring.secrets))
