"""Key files and passphrases: the owner's alone, never overwritten, never shown."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from polyward_client.site import Site, read_site
from polyward_client.trainer.vault import new_vault_key, open_vault
from polyward_client.trainer.vault.keys import open_ring, read_keys, read_passphrases, vault_salt
from polyward_shared.problems import Problem

WORDS = "six words that were drawn by chance"


def site_with(folder: Path, vault: str) -> Site:
    path = folder / "site.toml"
    path.write_text(f'name = "north"\n[vault]\n{vault}\n')
    return read_site(path)


def passphrase_file(folder: Path, *lines: str) -> Path:
    path = folder / "phrase"
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return path


def test_a_new_key_is_the_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "vault.key"
    new_vault_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    [secret] = read_keys(path).secrets
    assert len(secret) == 32
    before = path.read_bytes()
    with pytest.raises(Problem, match="exists already"):
        new_vault_key(path)
    assert path.read_bytes() == before


def test_two_keys_are_not_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        new_vault_key(tmp_path / name)
    a, b = (read_keys(tmp_path / name).newest(b"") for name in ("a", "b"))
    assert a.id != b.id


def test_the_site_says_where_the_key_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_ring(site_with(tmp_path, "rounds = 2")) is None
    new_vault_key(tmp_path / "vault.key")
    ring = open_ring(site_with(tmp_path, 'key = "vault.key"'))
    assert ring is not None
    assert ring.path == tmp_path / "vault.key"
    passphrase_file(tmp_path, WORDS)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))  # what systemd's LoadCredential sets
    ring = open_ring(site_with(tmp_path, 'passphrase = "${CREDENTIALS_DIRECTORY}/phrase"'))
    assert ring is not None
    assert ring.passphrases
    vault = open_vault(site_with(tmp_path, 'key = "vault.key"\nrounds = 7\ngigabytes = 0.5'), "5" * 64)
    assert (vault.rounds, vault.limit) == (7, 5e8)


def test_both_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="both key and passphrase are set"):
        open_ring(site_with(tmp_path, 'key = "a"\npassphrase = "b"'))


@pytest.mark.parametrize("what", ["key", "passphrase"])
def test_a_file_that_is_absent_or_open_to_others(tmp_path: Path, what: str) -> None:
    site = site_with(tmp_path, f'{what} = "secret"')
    with pytest.raises(Problem, match=f"vault\\] {what} names this file, and it is not there"):
        open_ring(site)
    path = tmp_path / "secret"
    new_vault_key(path)  # its line would do as a passphrase too
    path.chmod(0o640)
    with pytest.raises(Problem, match=f"other users may read this {what}"):
        open_ring(site)


@pytest.mark.parametrize("text", ["", "polyward-vault-key 00ff", "00" * 32, "polyward-vault-key zz"])
def test_another_file_is_no_key_file(tmp_path: Path, text: str) -> None:
    path = passphrase_file(tmp_path, text)
    with pytest.raises(Problem, match="is not a key file") as caught:
        read_keys(path)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("text", ["", "too short", "\n \n"])
def test_a_short_passphrase_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Problem, match="no passphrase, or a short one"):
        read_passphrases(passphrase_file(tmp_path, text))


def test_a_passphrase_is_stretched_with_scrypt(tmp_path: Path) -> None:
    ring = read_passphrases(passphrase_file(tmp_path, f"  {WORDS} ", "the one before it"))
    key = ring.newest(b"s" * 16)
    wanted = hashlib.scrypt(WORDS.encode(), salt=b"s" * 16, n=1 << 17, r=8, p=1, maxmem=1 << 28, dklen=32)
    assert key.secret == wanted
    assert ring.find(key.id, key.salt) == key
    assert ring.newest(b"t" * 16).id != key.id


def test_the_salt_is_made_once(tmp_path: Path) -> None:
    salt = vault_salt(tmp_path / "vault")
    assert len(salt) == 16
    assert vault_salt(tmp_path / "vault") == salt
    assert vault_salt(tmp_path / "another") != salt


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    new_vault_key(tmp_path / "k")
    ring = read_keys(tmp_path / "k")
    shown = f"{ring!r} {ring.newest(b'')!r} {ring}"
    assert ring.secrets[0].hex() not in shown
    assert repr(ring.secrets[0]) not in shown
