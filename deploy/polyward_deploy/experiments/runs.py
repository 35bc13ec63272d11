"""The runs of an experiment, several at a time, each in a process of its own; a finished one is not run again.

A run is known by its settings, software versions among them: what it found is kept in a file that holds them, and
counts as long as they are the same. Every process computes with one thread, since the last bits of a matrix product,
and with them a training, depend on how many share it.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError
from rich.console import Console

from polyward_deploy.experiments.outcome import Figure
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen

Settings = Mapping[str, JsonValue]
Tell = Callable[[int], None]  # hears the number of each finished round
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
LOOK_SECONDS = 0.2  # between looks at what the processes say

_said: Any = None  # in a process of the pool: the queue of (run, round) to the parent


class Ran(Frozen):
    """A finished run as it is kept."""

    settings: dict[str, JsonValue]
    seconds: float
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A `Problem` on its way between processes, which an exception with parts does not survive."""

    where: str
    found: str
    expected: str
    remedy: str

    @property
    def problem(self) -> Problem:
        return Problem(self.where, self.found, expected=self.expected, remedy=self.remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`work`, a function of a module, is called with `settings`; `name` is a file's name."""

    name: str
    title: str
    work: Callable[[Settings, Tell], list[Figure]]
    settings: Settings
    rounds: int

    @property
    def identity(self) -> dict[str, JsonValue]:
        return {**self.settings, "polyward": version("polyward"), "numpy": version("numpy")}

    def kept(self, folder: Path) -> Ran | None:
        """What an earlier call found with the same settings."""
        try:
            ran = Ran.model_validate_json((folder / f"{self.name}.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return ran if ran.settings == self.identity else None


def finished(runs: Sequence[Run], folder: Path, *, workers: int, talk: Console) -> list[Ran]:
    """What all of them found, in their order. Runs what is not in `folder` yet and shows on `talk` how far it is.

    Raises what the first run that failed raised, once those at work are done; they are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    due = [run for run in runs if run.kept(folder) is None]
    if due:
        _work(runs, due, folder, workers, talk)
    return [ran for run in runs if (ran := run.kept(folder)) is not None]


def _work(runs: Sequence[Run], due: Sequence[Run], folder: Path, workers: int, talk: Console) -> None:
    from polyward_deploy.screen import bars  # imports torch, which the processes can do without

    context = multiprocessing.get_context("spawn")  # threads and BLAS do not survive a fork
    said = context.SimpleQueue()
    progress = {run.name: 0 for run in due}
    with bars(talk) as bar, _one_thread():
        line = bar.add_task("rounds", total=sum(run.rounds for run in due), note=f"{len(due)} of {len(runs)} runs")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_listen, initargs=(said,)) as pool:
            waiting: dict[Future[Ran | Mistake], Run] = {pool.submit(_ran, run): run for run in due}
            failures: list[BaseException] = []
            while waiting:
                done, _ = wait(waiting, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
                while not said.empty():
                    name, number = said.get()
                    progress[name] = number
                bar.update(line, completed=sum(progress.values()), note=f"{len(waiting)} of {len(runs)} runs to go")
                for future in done:
                    run = waiting.pop(future)
                    if future.cancelled():
                        continue
                    found = future.exception() or future.result()
                    if isinstance(found, Ran):
                        _keep(folder / f"{run.name}.json", found)
                        bar.console.print(f"{run.title}: {found.seconds:.0f} s", highlight=False, markup=False)
                        continue
                    failures.append(found.problem if isinstance(found, Mistake) else found)
                    for other in waiting:
                        other.cancel()
            bar.update(line, note="")
    if failures:
        raise failures[0]


def _listen(said: Any) -> None:
    global _said  # noqa: PLW0603  a process of the pool has one parent
    _said = said


def _ran(run: Run) -> Ran | Mistake:
    """In a process of the pool."""
    began = time.monotonic()
    try:
        figures = run.work(run.settings, lambda number: _said.put((run.name, number)))
    except Problem as problem:
        return Mistake(problem.where, problem.found, problem.expected, problem.remedy)
    return Ran(settings=run.identity, seconds=time.monotonic() - began, figures=tuple(figures))


def _keep(path: Path, ran: Ran) -> None:
    """Whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(ran.model_dump_json() + "\n", encoding="utf-8")
    os.replace(draft, path)


@contextmanager
def _one_thread() -> Iterator[None]:
    """For the processes that are started meanwhile; numpy's library reads it when it is loaded."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
