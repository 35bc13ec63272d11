"""What a simulation found: every figure as a row, what it rests on, and the site x task table that people read.

Absent is absent: a figure that nobody measured has no row, an empty cell in files and a dash on the screen.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from polyward_deploy.arms import Arm
from polyward_shared.messages import Kept, Stage, is_interval
from polyward_shared.problems import Problem
from polyward_shared.reading import Frozen
from polyward_shared.study import Study
from polyward_shared.tasks import LOWER_IS_BETTER, METRICS, arrow, gain

ABSENT, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
ARM_NAMES: dict[Arm, str] = {"local": "Local only", "federated": "Federated", "fedavg": "Full FedAvg"}
FRACTIONS = frozenset({"dice"})  # means over cases of a number between 0 and 1
Z = 1.96  # 95 %
SHORT = {"balanced_accuracy": "bal.acc.", "macro_f1": "macro F1"}  # on a terminal of 80 columns
STAGES: dict[Kept, dict[Stage, Stage]] = {  # of each model that a site trains: what they are in an arm of its own
    "federated": {stage: stage for stage in (Stage.RECEIVED, Stage.TRAINED, Stage.FINAL)},
    "alone": {Stage.ALONE: Stage.TRAINED, Stage.ALONE_FINAL: Stage.FINAL},
    "ditto": {Stage.DITTO: Stage.TRAINED, Stage.DITTO_FINAL: Stage.FINAL},
}
MARKS: dict[Kept, str] = {"federated": "", "alone": "†", "ditto": "‡"}  # behind the gain
MARKED = {
    "†": "the site keeps the model that it trained alone",
    "‡": "the site keeps its own model near the federated one (Ditto)",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one task of one site in one arm, with the number of cases behind it and the site's own interval."""

    arm: Arm
    round: int
    site: str
    task: str
    split: str
    stage: Stage
    metric: str
    value: float
    count: int
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or self.count < 1:
            raise ValueError(f"found value = {self.value}, count = {self.count}; an absent figure has no row")
        if not is_interval(self.low, self.high):
            raise ValueError(
                f"found low = {self.low}, high = {self.high}; expected both ends of an interval or neither"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One committed round of an arm; in the local arm of one site. Round 0 is the first state."""

    arm: Arm
    round: int
    site: str = ""
    digest: str  # of the encoder
    seconds: float
    bytes_down: int = 0  # hub to sites
    bytes_up: int = 0  # sites to hub


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteData:
    """What a site brought: training images with any label, and training labels by task, every task of the site."""

    name: str
    images: int
    labels: dict[str, int]
    note: str = ""  # such as its scanner


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model a site keeps for a task."""

    site: str
    task: str
    model: Kept


class Results(Frozen):
    """Everything that a simulation leaves to be read."""

    study: Study
    started: str  # date and time as ISO 8601
    seconds: float
    machine: str
    generated: bool  # the images are generated: nothing here is about patients
    software: dict[str, str]
    sites: tuple[SiteData, ...]
    turns: tuple[Turn, ...]
    rows: tuple[Row, ...]
    kept: tuple[Choice, ...] = ()


@dataclass(frozen=True, slots=True)
class Value:
    """A figure at the end of an arm; `interval` is a 95 % one: `measured` by the site, else rough."""

    value: float
    count: int
    stage: Stage
    interval: tuple[float, float] | None
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One task at one site: its primary metric on the test split at the end of each arm."""

    site: str
    task: str
    metric: str
    values: Mapping[Arm, Value] = field(default_factory=dict)
    kept: Kept | None = None  # the model that the site keeps, if it had a choice

    @property
    def mark(self) -> str:
        """Of what the site keeps, where it is not the federated model."""
        return "" if self.kept is None else MARKS[self.kept]

    @property
    def gain(self) -> float | None:
        """Federated against local only, positive when federation is better.

        There is none between figures over different numbers of cases, or of different stages: tuning at the end
        would be credited to the arm that had it.
        """
        federated, local = self.values.get("federated"), self.values.get("local")
        if federated is None or local is None:
            return None
        if (federated.count, federated.stage) != (local.count, local.stage):
            return None
        return gain(self.metric, federated.value, local.value)

    @property
    def count(self) -> int | None:
        """The number of test cases, if any arm has a figure."""
        return max((value.count for value in self.values.values()), default=None)

    @property
    def digits(self) -> int:
        """Decimals that suit the largest figure, the same for the whole line."""
        largest = max((abs(value.value) for value in self.values.values()), default=0.0)
        return 3 if largest < 2 else 2 if largest < 100 else 1

    @property
    def best(self) -> frozenset[Arm]:
        """The arms with the best figure, when there is more than one to choose from."""
        if len(self.values) < 2:
            return frozenset()
        found = [value.value for value in self.values.values()]
        top = min(found) if self.metric in LOWER_IS_BETTER else max(found)
        return frozenset(arm for arm, value in self.values.items() if value.value == top)


def table(results: Results) -> list[Cell]:
    """A cell for every task of every site, in the order of the sites and of the study's tasks."""
    ends = _ends(results.rows)
    kept = {(choice.site, choice.task): choice.model for choice in results.kept}
    cells = []
    for site in results.sites:
        for task in (task for task in results.study.tasks if task in site.labels):
            metric = METRICS[results.study.tasks[task].kind][0]
            rows = {
                arm: ends[arm, site.name, task, metric] for arm in ARM_NAMES if (arm, site.name, task, metric) in ends
            }
            values = {
                arm: Value(row.value, row.count, row.stage, interval(row), row.low is not None)
                for arm, row in rows.items()
            }
            model = kept.get((site.name, task))
            cells.append(Cell(site=site.name, task=task, metric=metric, values=values, kept=model))
    return cells


def _ends(rows: Iterable[Row]) -> dict[tuple[Arm, str, str, str], Row]:
    """The test figures at the end: after the final tuning, else of the arm's last round after training, else before.

    A site that fell out earlier has none; its older figures are no end.
    """
    rows = [row for row in rows if row.split == "test" and row.stage in STAGES["federated"]]
    last: dict[Arm, int] = {}
    for row in rows:
        last[row.arm] = max(last.get(row.arm, 0), row.round)
    ends: dict[tuple[Arm, str, str, str], Row] = {}
    rank = {Stage.RECEIVED: 0, Stage.TRAINED: 1, Stage.FINAL: 2}
    for row in sorted(rows, key=lambda row: rank[row.stage]):
        if row.stage is Stage.FINAL or row.round == last[row.arm]:
            ends[row.arm, row.site, row.task, row.metric] = row
    return ends


def retold(row: Row, model: Kept, arm: Arm) -> Row | None:
    """A figure of one of the models that a site trains, as one of this arm; None for another model's."""
    stage = STAGES[model].get(row.stage)
    return None if stage is None else replace(row, arm=arm, stage=stage)


def seen_as(results: Results, model: Kept) -> Results:
    """The results as if this model, which sites train beside the federated one, had been the federated one."""
    rows = (retold(row, model, row.arm) for row in results.rows)
    return results.model_copy(update={"rows": tuple(row for row in rows if row is not None)})


def interval(row: Row) -> tuple[float, float] | None:
    """The site's own 95 % interval over its patients; else a rough one, where value and count are enough for it.

    Dice is a mean over cases of a number in [0, 1], whose variance cannot exceed m(1 - m) (Bhatia and Davis 2000), so
    Wilson's interval (1927) for a proportion is wide enough. AUROC, balanced accuracy and kappa would need the
    number of cases in each class, an absolute error its spread: for them there is none.
    """
    if row.low is not None and row.high is not None:
        return row.low, row.high
    if row.metric not in FRACTIONS or not 0 <= row.value <= 1:
        return None
    mean, count = row.value, row.count
    centre = (mean + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * math.sqrt(mean * (1 - mean) / count + Z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def verdict(cells: Iterable[Cell]) -> str:
    """How many cells improved and how little that may mean, as sentences."""
    compared = [(cell.gain, cell.count) for cell in cells if cell.gain is not None and cell.count is not None]
    if not compared:
        return "No cell can be compared: federated and local-only figures are needed."
    better = sum(gain > 0 for gain, _ in compared)
    worse = sum(gain < 0 for gain, _ in compared)
    counts = [count for _, count in compared]
    cases = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return (
        f"Federated against local only: {better} of {len(compared)} cells better, {worse} worse, "
        f"{len(compared) - better - worse} equal. Each rests on {cases} test cases. "
        "One seed proves nothing: repeat with others before believing a difference."
    )


def marked(cells: Iterable[Cell]) -> list[str]:
    """What the marks in a table mean, those that it has."""
    found = {cell.mark for cell in cells}
    why = "It did better on the site's validation split, or the site decided so."
    return [f"{mark} {meaning}. {why}" for mark, meaning in MARKED.items() if mark in found]


def shown(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A figure as people read it; a dash where there is none."""
    if value is None:
        return ABSENT
    value = round(value, digits) + 0.0  # without the sign of a zero
    return f"{value:{'+' if signed and value else ''}.{digits}f}".replace("-", MINUS)


def print_table(console: Console, cells: Iterable[Cell]) -> None:
    """The table on a terminal: best figure in bold, gain in green or red, and what it is worth."""
    cells = list(cells)
    grid = Table(box=box.HORIZONTALS, header_style="bold", pad_edge=False, collapse_padding=True)
    grid.add_column("site", no_wrap=True)
    grid.add_column("task", no_wrap=True)
    for heading in ("metric", "n", *ARM_NAMES, "gain"):
        grid.add_column(heading, justify="left" if heading == "metric" else "right", no_wrap=True)
    for place, cell in enumerate(cells):
        new = place == 0 or cells[place - 1].site != cell.site
        ends = place + 1 == len(cells) or cells[place + 1].site != cell.site
        figures = []
        for arm in ARM_NAMES:
            text = shown(cell.values[arm].value, cell.digits) if arm in cell.values else ABSENT
            figures.append(f"[bold]{text}[/]" if arm in cell.best else text)
        gain = shown(cell.gain, cell.digits, signed=True)
        colour = "dim" if not cell.gain else "green" if cell.gain > 0 else "red"
        count = ABSENT if cell.count is None else str(cell.count)
        grid.add_row(
            escape(cell.site) if new else "",
            escape(cell.task),
            f"{SHORT.get(cell.metric, cell.metric)}{arrow(cell.metric)}",
            count,
            *figures,
            f"[{colour}]{gain}[/]{cell.mark}",
            end_section=ends,
        )
    console.print("[bold]Test figures at the end[/]")
    console.print(grid)
    console.print("↑ higher is better, ↓ lower is better; a positive gain is always better.", style="dim")
    for sentence in marked(cells):
        console.print(sentence, style="dim", highlight=False)
    console.print(verdict(cells), style="dim", highlight=False)


def write_results(folder: Path, results: Results) -> None:
    """`results.json` with everything, `metrics.csv` with every row, `table.csv` with the cells."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_csv(folder / "metrics.csv", [f.name for f in fields(Row)], map(astuple, results.rows))
    ends = [f"{arm}_{end}" for arm in ARM_NAMES for end in ("low", "high")]
    header = ["site", "task", "metric", "count", *ARM_NAMES, "gain", *ends, "kept"]
    write_csv(folder / "table.csv", header, map(_line, table(results)))


def read_results(folder: Path) -> Results:
    """What `write_results` wrote. Raises `Problem`."""
    path = folder / "results.json"
    try:
        return Results.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise Problem(str(path), "there is no such file", remedy="run the simulation first") from None
    except ValidationError as error:
        raise Problem(str(path), f"is not a file of results ({error.error_count()} mistakes)") from None


def read_rows(path: Path) -> list[Row]:
    """The rows of a `metrics.csv`. Raises `Problem`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = [{key: text for key, text in line.items() if text} for line in csv.DictReader(file)]
            return TypeAdapter(list[Row]).validate_python(lines)
    except FileNotFoundError:
        raise Problem(str(path), "there is no such file") from None
    except ValidationError as error:
        line, key = (*error.errors()[0]["loc"], "the row")[:2]
        raise Problem(f"{path}, row {line}", f"{key}: {error.errors()[0]['msg']}") from None


def _line(cell: Cell) -> tuple[object, ...]:
    figures = [cell.values[arm].value if arm in cell.values else None for arm in ARM_NAMES]
    measured = [
        cell.values[arm].interval if arm in cell.values and cell.values[arm].measured else None for arm in ARM_NAMES
    ]
    ends = [end for found in measured for end in found or (None, None)]
    return cell.site, cell.task, cell.metric, cell.count, *figures, cell.gain, *ends, cell.kept


def write_csv(path: Path, header: list[str], lines: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)
