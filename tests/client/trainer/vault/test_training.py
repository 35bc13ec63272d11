"""A key changes where bytes lie open, and nothing of what is learnt."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_client.approvals import write_approval
from polyward_client.port.interface import Done, Work
from polyward_client.site import Site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.model import MultiTaskModel, schema_of
from polyward_client.trainer.trainer import LocalTrainer
from polyward_client.trainer.vault import new_vault_key, open_vault
from polyward_client.trainer.vault.rollback import roll_back
from polyward_client.trainer.vault.seal import is_sealed
from polyward_shared.problems import Code, Refused
from polyward_shared.states import read_state, write_state
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

TASKS = ("bright", "mask")
OPEN, SEALED = "", '[vault]\nkey = "vault.key"\n'


@pytest.fixture
def study() -> Study:
    return make_study(tasks=TASKS)


def site_with(folder: Path, study: Study, vault: str) -> Site:
    site = write_site(folder, tasks=TASKS, toml=f'{vault}[device]\ncache = "disk"\n[policy]\nminimum_sites = 1')
    new_vault_key(folder / "vault.key")
    write_approval(site.approved, make_approval(study, site), site.file.policy)
    return site


def order(study: Study, round: int, state: str) -> Work:
    schema = schema_of(MultiTaskModel(study, TASKS), study)
    digest = schema.state_digest(schema.pack(read_state(Path(state))))
    return Work(study=study.digest(), round=round, state=state, state_digest=digest)


def trained(site: Site, study: Study, rounds: int) -> tuple[LocalTrainer, list[Done]]:
    trainer = LocalTrainer(site)
    found, state = [], trainer.describe(study.digest()).first
    for number in range(1, rounds + 1):
        found.append(trainer.train(order(study, number, state), lambda progress: None))
        state = str(found[-1].update)
    return trainer, found


def kept(site: Site, study: Study) -> list[dict[str, bytes]]:
    vault = open_vault(site, study.digest())
    entries = [vault.entry(path) for path in vault.files()]
    return [{name: array.tobytes() for name, array in vault.arrays(entry).items()} for entry in entries]


def test_the_same_bytes_with_and_without_a_key(tmp_path: Path, study: Study) -> None:
    results = []
    for name, vault in (("open", OPEN), ("sealed", SEALED)):
        site = site_with(tmp_path / name, study, vault)
        trainer, done = trained(site, study, 2)
        last = trainer.finish(order(study, 2, str(done[-1].update)), lambda progress: None)
        updates = [{n: a.tobytes() for n, a in read_state(Path(str(each.update))).items()} for each in done]
        results.append((updates, kept(site, study), last.kept, last.metrics))
    assert len(results[0][1]) == 3
    assert results[0] == results[1]


def test_with_a_key_the_trainers_folder_holds_nothing_in_clear(tmp_path: Path, study: Study) -> None:
    """No array of a branch and no image, also where images are cached on the disk; the journal holds mean losses."""
    site = site_with(tmp_path, study, SEALED)
    (site.cache / "old").mkdir(parents=True)
    (site.cache / "old" / "images.npy").write_bytes(b"of a node that was killed")
    trained(site, study, 1)
    files = [path for path in site.trainer.rglob("*") if path.is_file()]
    [sealed] = [path for path in files if is_sealed(path)]
    assert {path.name for path in files} - {sealed.name} == {"salt", f"{study.digest()}.jsonl"}


def test_a_key_that_is_gone_stops_the_round_before_anything_is_trained(tmp_path: Path, study: Study) -> None:
    site = site_with(tmp_path, study, SEALED)
    trainer, done = trained(site, study, 1)
    (tmp_path / "vault.key").unlink()
    told: list[object] = []
    with pytest.raises(Refused, match="it is not there") as caught:
        trainer.train(order(study, 2, str(done[-1].update)), told.append)
    assert caught.value.code is Code.DATA
    assert not told


def test_a_full_vault_is_a_code_before_anything_is_trained_and_what_was_there_stays(
    tmp_path: Path, study: Study
) -> None:
    site = site_with(tmp_path, study, "[vault]\nrounds = 1\ngigabytes = 0.00005\n")
    trainer, done = trained(site, study, 1)
    [before] = kept(site, study)
    told: list[object] = []
    with pytest.raises(Refused, match="the vault would take") as caught:
        trainer.train(order(study, 2, str(done[-1].update)), told.append)
    assert caught.value.code is Code.DISK
    assert not told
    assert kept(site, study) == [before]


def test_after_a_rollback_a_later_round_begins_with_the_older_branches(tmp_path: Path, study: Study) -> None:
    """As at a site that never had the rounds in between."""
    results = []
    for name, rounds in (("short", 1), ("long", 3), ("back", 3)):
        site = site_with(tmp_path / name, study, SEALED)
        trainer, _ = trained(site, study, rounds)
        if name == "back":
            roll_back(open_vault(site, study.digest()), 1)
        state = site.spool / study.digest() / "state.safetensors"
        write_state(state, read_state(Path(trainer.describe(study.digest()).first)), {})
        fourth = trainer.train(order(study, 4, str(state)), lambda progress: None)
        results.append({name: array.tobytes() for name, array in read_state(Path(str(fourth.update))).items()})
    short, long, back = results
    assert back == short
    assert back != long
