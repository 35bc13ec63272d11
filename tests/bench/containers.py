"""The images' sizes, and how long a hub and a hospital's node in containers take from `up` to healthy."""

from __future__ import annotations

import time
from pathlib import Path

from tests.bench.rows import Row, measured
from tests.bench.scale import Scale, Step
from tests.containers.deployed import build_images, deployed
from tests.federation.small import small_study
from tests.support.engine import Engine, missing

IMAGES = ("hub", "gate", "trainer", "gateway")


def run(folder: Path, scale: Scale, step: Step) -> list[Row]:
    """Sizes as the engine tells them, uncompressed; seconds of the commands, which end when all parts are healthy."""
    if reason := missing():
        step(f"skipped: {reason}")
        return []
    engine = Engine()
    ours = engine.start()
    try:
        step("building the images")
        build_images(engine)
        rows = [_size(engine, image) for image in IMAGES]
        times = scale.of(5, quick=1)
        step("starting each image for its help")
        rows += [_help(engine, image, times) for image in ("hub", "gate", "trainer")]
        return rows + _ups(engine, folder, times, step)
    finally:
        engine.client.close()
        if ours:
            engine.stop()


def _size(engine: Engine, image: str) -> Row:
    [found] = engine.client.images.list(f"polyward-{image}", filters={"dangling": False})[:1]
    return Row(bench="containers", what=f"image {image}, uncompressed", unit="MB", value=found.attrs["Size"] / 1e6)


def _help(engine: Engine, image: str, times: int) -> Row:
    [found] = engine.client.images.list(f"polyward-{image}", filters={"dangling": False})[:1]
    took = []
    for _ in range(times):
        began = time.monotonic()
        engine.docker("run", "--rm", "--read-only", "--network", "none", found.id, "--help")
        took.append(time.monotonic() - began)
    return measured("containers", f"docker run {image} --help, made and removed", "s", took)


def _ups(engine: Engine, folder: Path, times: int, step: Step) -> list[Row]:
    study, sites = small_study(folder / "data", rounds=1, hospitals=2)
    with deployed(engine, study, sites[:1], folder) as put:
        took: dict[str, list[float]] = {"hub": [], next(iter(put.sites)): []}
        for number in range(times):
            step(f"down and up, {number + 1} of {times}")
            for name in reversed(took):
                put.down(name)
            for name, seconds in took.items():
                began = time.monotonic()
                put.up(name)
                seconds.append(time.monotonic() - began)
    hub, node = took.values()
    return [
        measured("containers", "polyward-hub up, until healthy", "s", hub),
        measured("containers", "polyward-node up, until trainer and gate are healthy", "s", node),
    ]
