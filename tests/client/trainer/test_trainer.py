"""The trainer as the gate sees it: the same order has the same answer, whatever was killed in between."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from polyward_client.approvals import write_approval
from polyward_client.port.interface import Done, Progress, Trainer, Work
from polyward_client.site import Site, read_site
from polyward_client.trainer import trainer as module
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.model import MultiTaskModel, schema_of
from polyward_client.trainer.trainer import LocalTrainer
from polyward_client.trainer.vault import taken_apart
from polyward_shared.messages import Stage
from polyward_shared.problems import Code, Problem, Refused
from polyward_shared.states import read_stamp, read_state, write_state
from polyward_shared.study import Study
from tests.support.images import make_study, write_site

TASKS = ("bright", "area", "mask")
# Dies by SIGKILL before or after one of the three writes of a round, or the vault's at the end.
DYING = """
import os, signal, sys
from pathlib import Path
from polyward_client.port.interface import Work
from polyward_client.site import read_site
from polyward_client.trainer.spool import Spool
from polyward_client.trainer.trainer import LocalTrainer
from polyward_client.trainer.vault import Vault

owner, name = {
    "vault": (Vault, "keep"),
    "update": (Spool, "keep_update"),
    "done": (Spool, "keep_done"),
    "final": (Vault, "keep_final"),
}[sys.argv[3]]
when = sys.argv[4]
write = getattr(owner, name)

def deadly(*args, **kwargs):
    if when == "after":
        write(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, deadly)
trainer = LocalTrainer(read_site(Path(sys.argv[1])))
work = trainer.finish if sys.argv[3] == "final" else trainer.train
work(Work.model_validate_json(sys.argv[2]), lambda progress: None)
"""


def digest(study: Study, path: str) -> str:
    schema = schema_of(MultiTaskModel(study, TASKS), study)
    return schema.state_digest(schema.pack(read_state(Path(path))))


def work(study: Study, round: int, state: str) -> Work:
    return Work(study=study.digest(), round=round, state=state, state_digest=digest(study, state))


def quiet(progress: Progress) -> None:
    pass


@pytest.fixture
def study() -> Study:
    return make_study(tasks=TASKS, training={"augmentation": "light"})


@pytest.fixture
def site(tmp_path: Path, study: Study) -> Site:
    site = write_site(tmp_path, tasks=TASKS, toml="[policy]\nminimum_count = 2")
    write_approval(site.approved, make_approval(study, site))
    return site


def content(path: str | Path | None) -> tuple[dict[str, str], dict[str, bytes]]:
    """Stamp and bytes of every array; safetensors itself writes the stamp's keys in any order."""
    assert path is not None
    return read_stamp(Path(path)), {name: array.tobytes() for name, array in read_state(Path(path)).items()}


def kept(site: Site, study: Study, round: int) -> tuple[dict[str, str], dict[str, bytes]]:
    return content(site.vault / study.digest() / f"round-{round:06}.safetensors")


def two_rounds(site: Site, study: Study) -> tuple[Done, Done]:
    trainer: Trainer = LocalTrainer(site)
    first = trainer.train(work(study, 1, trainer.describe(study.digest()).first), quiet)
    return first, trainer.train(work(study, 2, str(first.update)), quiet)


def test_a_description_counts_labels_and_brings_the_first_state(site: Site, study: Study) -> None:
    found = LocalTrainer(site).describe(study.digest())
    assert (found.samples, found.counts) == (12, {"bright": 12, "area": 12, "mask": 12})
    schema_of(MultiTaskModel(study, TASKS), study).check(read_state(Path(found.first)))
    assert found.software.startswith("polyward ")
    assert found.device == "CPU, 1 thread"
    assert Path(found.first).is_relative_to(site.spool)


def test_two_rounds_and_the_end(site: Site, study: Study) -> None:
    progress: list[Progress] = []
    trainer = LocalTrainer(site)
    first = trainer.train(work(study, 1, trainer.describe(study.digest()).first), progress.append)
    assert {row.stage for row in first.metrics} == {Stage.RECEIVED, Stage.TRAINED, Stage.ALONE}
    phases = [p.phase for p in progress if p.loss is not None]
    assert phases == ["branches", "encoder", "alone: branches", "alone: encoder"]
    assert first.steps > 0
    second = trainer.train(work(study, 2, str(first.update)), quiet)
    assert digest(study, str(second.update)) != digest(study, str(first.update))
    last = trainer.finish(work(study, 2, str(second.update)), quiet)
    assert (last.update, last.steps) == (None, 0)
    assert {row.stage for row in last.metrics} == {Stage.FINAL, Stage.ALONE_FINAL, Stage.KEPT}
    assert last.kept.keys() == set(TASKS)
    models = taken_apart(read_state(site.vault / study.digest() / "final.safetensors"))
    assert models.keys() == {"federated", *last.kept.values()}
    for model in models.values():
        assert {name.split(".")[0] for name in model} == {"encoder", "branches", "balancer"}


def test_an_update_has_no_array_of_a_branch(site: Site, study: Study) -> None:
    first, _ = two_rounds(site, study)
    assert all(name.startswith("encoder.") for name in read_state(Path(str(first.update))))


def test_the_same_order_is_answered_without_training(site: Site, study: Study) -> None:
    trainer = LocalTrainer(site)
    order = work(study, 1, trainer.describe(study.digest()).first)
    first = trainer.train(order, quiet)
    shutil.rmtree(site.vault)  # proof: a second training would write it again
    assert LocalTrainer(site).train(order, quiet) == first
    assert not site.vault.exists()


def test_a_lost_update_is_trained_again(site: Site, study: Study) -> None:
    first, _ = two_rounds(site, study)
    path = Path(str(first.update))
    before = content(path)
    path.unlink()
    again = LocalTrainer(site).train(work(study, 1, LocalTrainer(site).describe(study.digest()).first), quiet)
    assert again.update == first.update
    assert content(path) == before


def test_a_warm_trainer_and_a_fresh_one_give_the_same_bytes(tmp_path: Path, study: Study) -> None:
    results = []
    for number, fresh in enumerate((False, True)):
        site = write_site(tmp_path / str(number), tasks=TASKS)
        write_approval(site.approved, make_approval(study, site))
        if not fresh:
            _, second = two_rounds(site, study)
        else:
            first = LocalTrainer(site).train(work(study, 1, LocalTrainer(site).describe(study.digest()).first), quiet)
            torch.manual_seed(number)
            second = LocalTrainer(site).train(work(study, 2, str(first.update)), quiet)
        results.append((content(second.update), kept(site, study, 2), second.metrics))
    assert results[0] == results[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "when"), [("vault", "before"), ("vault", "after"), ("update", "after"), ("done", "after")]
)
def test_killed_between_the_writes_a_retry_gives_the_same_bytes(tmp_path: Path, point: str, when: str) -> None:
    study = make_study(tasks=TASKS, training={"augmentation": "light", "contrast": 0.1}, personal={"ditto": 0.1})
    sites = [write_site(tmp_path / name, tasks=TASKS) for name in ("whole", "killed")]
    for site in sites:
        write_approval(site.approved, make_approval(study, site))
    whole, killed = sites
    _, wanted = two_rounds(whole, study)
    first = LocalTrainer(killed).train(work(study, 1, LocalTrainer(killed).describe(study.digest()).first), quiet)
    order = work(study, 2, str(first.update))
    script = [sys.executable, "-c", DYING, str(killed.path), order.model_dump_json(), point, when]
    assert subprocess.run(script, check=False).returncode == -signal.SIGKILL
    folder = killed.spool / study.digest()
    records = list(folder.glob("done-000002-*.json"))
    assert bool(records) == ((point, when) == ("done", "after"))
    progress: list[Progress] = []
    again = LocalTrainer(read_site(killed.path)).train(order, progress.append)
    assert bool(progress) != bool(records)  # trained again, or answered from the record
    assert content(again.update) == content(wanted.update)
    assert kept(killed, study, 2) == kept(whole, study, 2)
    entry = read_state(killed.vault / study.digest() / "round-000002.safetensors")
    assert taken_apart(entry).keys() == {"federated", "previous", "alone", "ditto"}
    assert (again.metrics, again.steps) == (wanted.metrics, wanted.steps)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_the_end_a_retry_keeps_the_same_models(tmp_path: Path, study: Study, when: str) -> None:
    sites = [write_site(tmp_path / name, tasks=TASKS) for name in ("whole", "killed")]
    for site in sites:
        write_approval(site.approved, make_approval(study, site))
    whole, killed = sites
    orders = [work(study, 2, str(two_rounds(site, study)[1].update)) for site in sites]
    wanted = LocalTrainer(whole).finish(orders[0], quiet)
    script = [sys.executable, "-c", DYING, str(killed.path), orders[1].model_dump_json(), "final", when]
    assert subprocess.run(script, check=False).returncode == -signal.SIGKILL
    assert not list((killed.spool / study.digest()).glob("final-*.json"))
    again = LocalTrainer(killed).finish(orders[1], quiet)
    assert (again.kept, again.metrics) == (wanted.kept, wanted.metrics)
    finals = [content(site.vault / study.digest() / "final.safetensors") for site in sites]
    assert finals[0] == finals[1]


def test_the_spool_keeps_two_rounds(site: Site, study: Study) -> None:
    trainer = LocalTrainer(site)
    state = trainer.describe(study.digest()).first
    for number in (1, 2, 3):
        state = str(trainer.train(work(study, number, state), quiet).update)
    folder = site.spool / study.digest()
    assert sorted(path.name[:13] for path in folder.glob("update-*")) == ["update-000002", "update-000003"]
    assert len(list(folder.glob("done-*"))) == 2


def refusal(trainer: Trainer, order: Work) -> Refused:
    with pytest.raises(Refused) as caught:
        trainer.train(order, quiet)
    return caught.value


def test_refusals(site: Site, study: Study, tmp_path: Path) -> None:
    trainer = LocalTrainer(site)
    order = work(study, 1, trainer.describe(study.digest()).first)
    assert refusal(trainer, order.model_copy(update={"study": "0" * 64})).code is Code.STUDY_NOT_APPROVED
    assert refusal(trainer, order.model_copy(update={"state": str(site.spool / "no")})).code is Code.STATE_UNKNOWN
    write_state(tmp_path / "outside", read_state(Path(order.state)), {})
    assert refusal(trainer, order.model_copy(update={"state": str(tmp_path / "outside")})).code is Code.STATE_UNKNOWN
    assert refusal(trainer, order.model_copy(update={"state_digest": "0" * 64})).code is Code.STATE_MISMATCH
    site.manifest.write_text("path\n")
    assert refusal(trainer, order).code is Code.DATA


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), Code.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), Code.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "No space left on device"), Code.DISK),
        (ValueError("what"), Code.TRAINING_FAILED),
    ],
)
def test_errors_become_codes(
    site: Site, study: Study, monkeypatch: pytest.MonkeyPatch, error: Exception, code: Code
) -> None:
    trainer = LocalTrainer(site)

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "train_round", fails)
    found = refusal(trainer, work(study, 1, trainer.describe(study.digest()).first))
    assert found.code is code
    assert not list((site.spool / study.digest()).glob("update-*"))


def test_a_cancelled_round_leaves_nothing_and_can_be_repeated(site: Site, study: Study) -> None:
    trainer = LocalTrainer(site)
    order = work(study, 1, trainer.describe(study.digest()).first)

    def impatient(progress: Progress) -> None:
        if progress.loss is not None:
            trainer.cancel()

    with pytest.raises(Refused) as caught:
        trainer.train(order, impatient)
    assert caught.value.code is Code.CANCELLED
    assert not (site.vault / study.digest()).exists()
    assert trainer.train(order, quiet).update


def test_a_damaged_vault_stops_the_round(site: Site, study: Study) -> None:
    first, _ = two_rounds(site, study)
    path = site.vault / study.digest() / "round-000002.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    assert refusal(LocalTrainer(site), work(study, 3, str(first.update))).code is Code.DATA


def test_a_changed_manifest_is_read_again(site: Site, study: Study) -> None:
    trainer = LocalTrainer(site)
    order = work(study, 1, trainer.describe(study.digest()).first)
    assert trainer.train(order, quiet).samples == 12
    text = site.manifest.read_text().splitlines()
    site.manifest.write_text("\n".join(text[:-5]) + "\n")
    assert trainer.train(order.model_copy(update={"round": 2}), quiet).samples == 9


def test_shared_branches_travel_with_the_encoder(tmp_path: Path) -> None:
    study = make_study(tasks=TASKS, sharing={"branches": "task"})
    site = write_site(tmp_path, tasks=TASKS)
    write_approval(site.approved, make_approval(study, site))
    first, _ = two_rounds(site, study)
    groups = {name.split(".")[0] for name in read_state(Path(str(first.update)))}
    assert groups == {"encoder", "branches"}
    models = taken_apart(read_state(site.vault / study.digest() / "round-000001.safetensors"))
    remembered = {f"branches.{task}.progress" for task in TASKS}
    assert set(models["federated"]) == {"branches.area.head.target", "balancer.reference"} | remembered


def test_a_record_names_its_update(site: Site, study: Study) -> None:
    first, _ = two_rounds(site, study)
    (record,) = (site.spool / study.digest()).glob("done-000001-*.json")
    assert json.loads(record.read_text())["update"] == first.update


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert module.chosen_device("auto").type == "cpu"
    with pytest.raises(Problem, match="sees no GPU"):
        module.chosen_device("cuda:0")
