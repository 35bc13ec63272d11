"""A trainer that is told to end: with its batch, without an answer that the gate could take for a refusal."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polyward_client.approvals import write_approval
from polyward_client.parts import child_of, make_folders, start_of
from polyward_client.port.connect import RemoteTrainer
from polyward_client.port.interface import Progress, Work
from polyward_client.site import Site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.trainer import LocalTrainer
from polyward_shared.problems import Code, Refused
from polyward_shared.states import read_state
from polyward_shared.study import Study
from polyward_shared.supervise import end_all, start
from tests.support.images import make_study, write_site

TASKS = ("bright", "mask")


@pytest.fixture
def study() -> Study:
    return make_study(tasks=TASKS, training={"branch_epochs": 1, "epochs": 40})


@pytest.fixture
def site(tmp_path: Path, study: Study) -> Site:
    site = write_site(tmp_path, tasks=TASKS)
    write_approval(site.approved, make_approval(study, site))
    return site


def order(trainer: LocalTrainer | RemoteTrainer, site: Site, study: Study) -> Work:
    first = trainer.describe(study.digest()).first
    schema = make_approval(study, site).schema
    state_digest = schema.state_digest(schema.pack(read_state(Path(first))))
    return Work(study=study.digest(), round=1, state=first, state_digest=state_digest)


def test_closing_ends_the_work_and_refuses_what_waits(site: Site, study: Study) -> None:
    trainer = LocalTrainer(site)
    work, begun = order(trainer, site, study), threading.Event()

    def watch(progress: Progress) -> None:
        if progress.loss is not None:
            begun.set()

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(trainer.train, work, watch)]
        assert begun.wait(60)
        calls.append(pool.submit(trainer.train, work, watch))  # a gate that asked again
        trainer.close()
        for call in calls:
            with pytest.raises(Refused) as refused:
                call.result(60)
            assert refused.value.code is Code.CANCELLED
    assert not (site.vault / study.digest()).exists()


@pytest.fixture
def at_the_port(site: Site) -> Iterator[None]:
    """This process where the gate works: a socket's path must be short."""
    make_folders(site)
    here = Path.cwd()
    os.chdir(site.port)
    yield
    os.chdir(here)


@pytest.mark.usefixtures("at_the_port")
def test_the_process_ends_within_an_epoch_and_its_successor_answers_the_same_call(site: Site, study: Study) -> None:
    child = child_of(site, start_of(site, "trainer"))
    first = start(child)
    trainer, begun = RemoteTrainer(site.socket), threading.Event()

    def watch(progress: Progress) -> None:
        if progress.loss is not None and progress.epoch < 20:
            begun.set()

    try:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(trainer.train, order(trainer, site, study), watch)
            assert begun.wait(60)
            told = time.monotonic()
            first.terminate()
            assert first.wait(5) == 0
            assert time.monotonic() - told < 5
            assert first.stdin is not None
            first.stdin.close()
            assert not call.done()
            second = start(child)
            assert call.result(60).steps > 0
    finally:
        trainer.close()
        end_all([first, second])
    assert "the work failed" not in (site.logs / "trainer.log").read_text()
