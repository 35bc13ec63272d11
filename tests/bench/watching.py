"""The dashboard under load: fifty sites speak, twenty people watch, rounds are committed; how late, how large it gets.

A real hub with all its processes, real gates' links over TLS, and browsers' streams over TLS, all on one machine. With
`python -m tests.bench.watching --minutes 30` it goes on for so long and says how fast each process's memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from rich.console import Console

from polyward_client.gate.control import ControlLink
from polyward_client.port.interface import Progress
from polyward_server.records import Event, State
from tests.bench.rows import Row, measured
from tests.bench.scale import Scale, Step
from tests.support.real_hub import RealHub, real_hub
from tests.support.signed_in import signed_in
from tests.support.story import fill, one_round

SITES, VIEWERS, SECONDS = 50, 20, 60
MARK_SECONDS = 0.5  # between events whose way to the browsers is timed
SPEAK_SECONDS = 1.0  # between a site's words on its progress
ROUND_SECONDS = 10.0  # between committed rounds
LOOK_SECONDS = 10.0  # between looks at the memory
PARTS = ("superlink", "runner", "control", "dashboard")


@dataclass
class Seen:
    """What was measured: seconds from an event to each browser, of each page, and memory by process over time."""

    streams: list[float] = field(default_factory=list)
    pages: list[float] = field(default_factory=list)
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # seconds, MB
    lost: int = 0  # streams that ended early


def run(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """Latencies as medians with their extremes; the memory is that at the end."""
    sites, viewers = scale.of(SITES, quick=4), scale.of(VIEWERS, quick=3)
    seen = watched(folder, sites=sites, viewers=viewers, seconds=scale.of(SECONDS, quick=8), step=step)
    late = f"{sites} sites speak, {viewers} people watch: "
    rows = [
        measured("watching", late + "an event to a browser", "s", seen.streams),
        Row(bench="watching", what=late + "the same, 95th percentile", unit="s", value=_high(seen.streams)),
        measured("watching", late + "the study's page", "s", seen.pages),
    ]
    for name, found in seen.memory.items():
        rows.append(Row(bench="watching", what=late + f"memory of {name}", unit="MB", value=found[-1][1]))
    return rows


def watched(folder: Path, *, sites: int, viewers: int, seconds: float, step: Step) -> Seen:
    """Lets sites speak and people watch for so long."""
    seen, stop = Seen(), threading.Event()
    with real_hub(folder) as hub, ExitStack() as links:
        names = [f"clinic{number:02d}" for number in range(sites)]
        step(f"{sites} sites join")
        joined = {name: hub.enrolled(name, folder / "sites") for name in names}
        digest = fill(hub.ledger, rounds=3, sites=dict.fromkeys(names, 200), state=State.DRAFT)
        connected = [links.enter_context(hub.linked(site)) for site in joined.values()]
        cookie = signed_in(hub.ledger, "viewer")
        threads = [
            threading.Thread(target=_speak, args=(connected, digest, stop)),
            threading.Thread(target=_commit, args=(hub, digest, names, stop)),
            threading.Thread(target=_weigh, args=(hub, seen, stop)),
        ]
        for thread in threads:
            thread.start()
        step(f"{viewers} people watch for {seconds:.0f} s")
        try:
            asyncio.run(_watch(hub, digest, cookie, viewers, seconds, seen))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    return seen


async def _watch(hub: RealHub, digest: str, cookie: dict[str, str], viewers: int, seconds: float, seen: Seen) -> None:
    """Twenty streams, one reader of pages, and marks in the ledger whose way to every stream is timed."""
    file, sent = hub.hub.file, dict[str, float]()
    address = f"https://{file.dashboard_host}:{file.dashboard_port}"
    async with httpx.AsyncClient(
        base_url=address,
        verify=str(hub.hub.ca),
        cookies=cookie,
        timeout=httpx.Timeout(30, read=120),
        limits=httpx.Limits(max_connections=viewers + 5),
    ) as client:
        watchers = [asyncio.create_task(_stream(client, digest, sent, seen)) for _ in range(viewers)]
        reader = asyncio.create_task(_read(client, digest, seen))
        until, number = time.monotonic() + seconds, 0
        await asyncio.sleep(3)  # the streams begin with everything
        while time.monotonic() < until:
            mark, number = f"mark-{number}-", number + 1
            sent[mark] = time.monotonic()
            await asyncio.to_thread(hub.ledger.note, Event(digest, 4, "clinic00", "outlier", mark))
            await asyncio.sleep(MARK_SECONDS)
        await asyncio.sleep(2)
        tasks = [*watchers, reader]
        seen.lost = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stream(client: httpx.AsyncClient, digest: str, sent: dict[str, float], seen: Seen) -> None:
    met: set[str] = set()
    async with client.stream("GET", f"/live/study?study={digest}") as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            now = time.monotonic()
            for mark, at in list(sent.items())[-20:]:
                if mark not in met and mark in line:
                    met.add(mark)
                    seen.streams.append(now - at)


async def _read(client: httpx.AsyncClient, digest: str, seen: Seen) -> None:
    while True:
        began = time.monotonic()
        (await client.get(f"/studies/{digest}")).raise_for_status()
        seen.pages.append(time.monotonic() - began)
        await asyncio.sleep(1)


def _speak(links: list[ControlLink], digest: str, stop: threading.Event) -> None:
    epoch = 0
    while not stop.wait(SPEAK_SECONDS):
        epoch += 1
        for link in links:
            if epoch % 10 == 1:
                link.courses.begins(digest, 4 + epoch // 10)
            link.courses.progress(Progress(phase="together", epoch=epoch % 10, epochs=10))


def _commit(hub: RealHub, digest: str, names: list[str], stop: threading.Event) -> None:
    number, draw = 4, np.random.default_rng(0)
    while not stop.wait(ROUND_SECONDS):
        one_round(hub.ledger, digest, number, dict.fromkeys(names, 200), draw)
        number += 1


def _weigh(hub: RealHub, seen: Seen, stop: threading.Event) -> None:
    assert hub.process is not None
    began = time.monotonic()
    while True:
        for child in psutil.Process(hub.process.pid).children():
            name = next((part for part in PARTS if any(part in word for word in child.cmdline())), "other")
            megabytes = child.memory_full_info().uss / 1e6
            seen.memory.setdefault(name, []).append((time.monotonic() - began, megabytes))
        if stop.wait(LOOK_SECONDS):
            return


def _high(figures: list[float]) -> float:
    return statistics.quantiles(figures, n=20)[-1]


def slope(found: list[tuple[float, float]]) -> float:
    """MB an hour by least squares, over the second half: the first fills caches."""
    later = found[len(found) // 2 :]
    return float(np.polyfit([at for at, _ in later], [megabytes for _, megabytes in later], 1)[0]) * 3600


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.watching", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--sites", type=int, default=SITES)
    parser.add_argument("--viewers", type=int, default=VIEWERS)
    options, console = parser.parse_args(), Console()
    with tempfile.TemporaryDirectory(prefix="polyward-soak-") as folder:
        seen = watched(
            Path(folder),
            sites=options.sites,
            viewers=options.viewers,
            seconds=60 * options.minutes,
            step=console.print,
        )
    console.print(
        f"an event to a browser: median {statistics.median(seen.streams):.2f} s, 95 % {_high(seen.streams):.2f} s"
    )
    console.print(f"the study's page: median {statistics.median(seen.pages):.3f} s, 95 % {_high(seen.pages):.3f} s")
    console.print(f"streams that ended early: {seen.lost} of {options.viewers + 1}")
    for name, found in seen.memory.items():
        console.print(f"{name}: {found[0][1]:.0f} MB at first, {found[-1][1]:.0f} MB at last, {slope(found):+.1f} MB/h")
    print(json.dumps(seen.memory), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
