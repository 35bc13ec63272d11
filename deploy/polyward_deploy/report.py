"""Results -> one HTML page that needs nothing else: no scripts, no fonts or pictures from anywhere, light and dark."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from polyward_deploy.arms import Arm
from polyward_deploy.pages import date, template, written
from polyward_deploy.plots import Tile, curves, heat_map, strength
from polyward_deploy.results import ABSENT, ARM_NAMES, Cell, Results, Turn, marked, shown, table, verdict

GAIN = "Gain of federated over local-only training"


@dataclass(frozen=True, slots=True)
class RoundLine:
    """One round of an arm; a digest only where the arm has one encoder."""

    round: int
    seconds: float
    down: int
    up: int
    digest: str


@dataclass(frozen=True, slots=True)
class ArmRounds:
    """All rounds of an arm, and their sum."""

    arm: Arm
    lines: tuple[RoundLine, ...]
    sites: tuple[tuple[str, str], ...]  # local arm: each site's last digest

    @property
    def total(self) -> RoundLine:
        lines = self.lines
        return RoundLine(
            len(lines), sum(x.seconds for x in lines), sum(x.down for x in lines), sum(x.up for x in lines), ""
        )


def write_report(folder: Path, results: Results) -> Path:
    """Writes `report.html` into the folder and returns its path."""
    return written(folder, "report.html", page(results))


def page(results: Results) -> str:
    """The page's text; the same results give the same text."""
    cells = table(results)
    rounds = [_arm_rounds(arm, results.turns) for arm in ("federated", "fedavg", "local")]
    return template("report.html.j2").render(
        results=results,
        study=results.study,
        started=date(results.started),
        absent=ABSENT,
        arms=ARM_NAMES,
        by_site=[(site, list(group)) for site, group in groupby(cells, lambda cell: cell.site)],
        counted=_counted(cells),
        verdict=verdict(cells),
        marked=marked(cells),
        heat_map=heat_map(map(_tile, cells), list(results.study.tasks), GAIN, "gain") if cells else None,
        curves=curves(results),
        tasks=list(results.study.tasks),
        rounds=[arm for arm in rounds if arm.lines],
        settings=json.dumps(results.study.model_dump(mode="json"), indent=2, ensure_ascii=False),
    )


def _tile(cell: Cell) -> Tile:
    strong = None if cell.gain is None else strength(cell.gain, cell.metric, cell.values["local"].value)
    return Tile(cell.site, cell.task, shown(cell.gain, cell.digits, signed=True), strong)


def _counted(cells: Iterable[Cell]) -> tuple[int, int]:
    gains = [cell.gain for cell in cells if cell.gain is not None]
    return sum(gain > 0 for gain in gains), len(gains)


def _arm_rounds(arm: Arm, turns: Sequence[Turn]) -> ArmRounds:
    own = sorted((turn for turn in turns if turn.arm == arm), key=lambda turn: (turn.round, turn.site))
    lines = []
    for number, group in groupby(own, lambda turn: turn.round):
        found = list(group)
        digest = found[0].digest if not found[0].site else ""
        seconds, down, up = (
            sum(values) for values in zip(*((t.seconds, t.bytes_down, t.bytes_up) for t in found), strict=True)
        )
        lines.append(RoundLine(number, seconds, down, up, digest))
    return ArmRounds(arm, tuple(lines), tuple({turn.site: turn.digest for turn in own if turn.site}.items()))
