"""Trains the runs of a comparison that are not finished, several at once, each in a process of its own.

Runs have nothing to do with each other: what happens to one, even its sudden end, leaves the others alone. A process
that is ended in the middle of a round loses that round and nothing else; the next call goes on there.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Literal

from rich.console import Console

from polyward_deploy.comparison.plan import Run
from polyward_deploy.screen import TROUBLE, bars
from polyward_deploy.simulate import Watch, run_arm
from polyward_server.cli.studies import sentence
from polyward_server.records import Event
from polyward_shared.problems import Problem

TRACE = "error.txt"  # in a run's folder: where a mistake of the program happened


@dataclass(frozen=True, slots=True)
class News:
    """Of a run: a round that it has committed, trouble in a sentence, why it failed, or that it is finished."""

    what: Literal["round", "trouble", "failed", "finished"]
    round: int = 0
    text: str = ""


Hear = Callable[[Run, News], None]


def train(runs: Sequence[Run], *, processes: int, talk: Console) -> dict[str, str]:
    """Trains what is not finished and shows on `talk` how far it is; why runs failed, by title."""
    failures: dict[str, str] = {}
    waiting = []
    with _progress(talk, runs) as (hear, say):
        for run in runs:
            if run.finished:
                say(f"{run.title}: finished before")
                hear(run, News("round", run.study.rounds))
            else:
                waiting.append(run)

        def told(run: Run, news: News) -> None:
            if news.what == "failed":
                failures[run.title] = news.text
            hear(run, news)

        if processes == 1:
            for run in waiting:
                _tried(run, partial(told, run))
        else:
            _at_once(waiting, processes, told)
    return failures


def _at_once(runs: Sequence[Run], processes: int, hear: Hear) -> None:
    """Every run in a fresh process, so many of them at once; all of them are ended with this call, however it ends."""
    context = multiprocessing.get_context("spawn")
    waiting = deque(runs)
    at_work: dict[Connection, tuple[Run, BaseProcess]] = {}
    process: BaseProcess
    try:
        while waiting or at_work:
            while waiting and len(at_work) < processes:
                run = waiting.popleft()
                pipe, far_end = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(run, far_end), name=run.title, daemon=True)
                process.start()
                at_work[pipe] = run, process
                far_end.close()  # the process holds the other copy: when it ends, so does the pipe
            for ready in (pipe for pipe in wait(list(at_work)) if isinstance(pipe, Connection)):
                run, process = at_work[ready]
                try:
                    hear(run, ready.recv())
                except EOFError:
                    del at_work[ready]
                    ready.close()
                    process.join()
                    if process.exitcode:
                        hear(run, News("failed", text=f"its process ended with exit code {process.exitcode}"))
    finally:
        for _, process in at_work.values():
            process.terminate()
        for pipe, (_, process) in at_work.items():
            process.join()
            pipe.close()


def _work(run: Run, pipe: Connection) -> None:
    """The life of a process. An interruption at the keyboard is the first process's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _tried(run, pipe.send)
    pipe.close()


def _tried(run: Run, tell: Callable[[News], None]) -> None:
    """Trains one run; whatever goes wrong in it is told and goes no further."""

    def event(_: str, happened: Event) -> None:
        if happened.what == "committed":
            tell(News("round", happened.round))
        elif happened.what in TROUBLE:
            tell(News("trouble", text=sentence(happened)))

    try:
        run_arm(run.study, run.sites, "federated", run.folder, workers=1, watch=Watch(event=event))
    except Problem as problem:
        tell(News("failed", text=str(problem)))
    except Exception as error:  # a mistake of ours in one run must not cost the others
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / TRACE).write_text(traceback.format_exc(), encoding="utf-8")
        first = (str(error).splitlines() or [""])[0]
        tell(News("failed", text=f"{type(error).__name__}: {first} (see {run.folder / TRACE})"))
    else:
        tell(News("finished"))


@contextmanager
def _progress(console: Console, runs: Sequence[Run]) -> Iterator[tuple[Hear, Callable[[str], None]]]:
    """A bar over the rounds of all runs: how to tell it news, and how to say something above it."""
    bar = bars(console)
    line = bar.add_task("rounds", total=sum(run.study.rounds for run in runs), note="")
    reached: dict[str, int] = {}
    start = time.monotonic()

    def say(text: str) -> None:
        bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def hear(run: Run, news: News) -> None:
        match news.what:
            case "round":
                reached[run.title] = news.round
                bar.update(line, completed=sum(reached.values()), note=run.title)
            case "trouble":
                say(f"{run.title}: {news.text}")
            case "failed":
                say(f"{run.title}: failed: {news.text}")
            case "finished":
                say(f"{run.title}: finished, {time.monotonic() - start:.0f} s since the start")

    with bar:
        yield hear, say
        bar.update(line, note="")
