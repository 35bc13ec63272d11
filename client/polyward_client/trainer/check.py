"""`polyward-node check`: what of this site's data a study would use, and one real training step for each task."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.table import Table

from polyward_client.site import Site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.cells import CellError, inside
from polyward_client.trainer.counts import safe_census, write_census
from polyward_client.trainer.dataset import Dataset, load_dataset, windows
from polyward_client.trainer.manifest import SPLITS, Manifest, census, read_manifest, read_rows
from polyward_client.trainer.model import site_model
from polyward_client.trainer.previews import draw_previews
from polyward_client.trainer.round import Run, fit_statistics, optimisers_of
from polyward_client.trainer.schedule import Phase
from polyward_client.trainer.side import side_names
from polyward_client.trainer.step import train_step
from polyward_client.trainer.trainer import chosen_device, device_name, make_deterministic
from polyward_shared.problems import Problem
from polyward_shared.study import Study

SHOWN_UNUSED = 10
MEMORY = "use a smaller training.batch or encoder.filters in the study, or a device with more memory"


def run_check(
    site: Site, study: Study | None, console: Console, *, previews: Path | None = None, count: bool = False
) -> bool:
    """Prints the findings and returns whether this site can take part; without a study, whether its table is sound.

    With a folder for `previews`, pictures of the data are drawn there; with `count`, the census for others is written.
    """
    try:
        if study is None:
            _print_cells(site, console)
            return True
        approval = make_approval(study, site)
        device = chosen_device(site.file.device.kind)
        manifest = read_manifest(site, study, approval.tasks)
        _print_labels(manifest, study, console)
        _print_unused(manifest, console)
        if count:
            _print_census(site, study, manifest, console)
        with Bar(console=console, transient=True) as bar:
            reading = bar.add_task("reading images", total=len(manifest.cases))
            data = load_dataset(manifest, study, loaded=lambda done, of: bar.update(reading, completed=done, total=of))
        if previews is not None:
            for sheet in draw_previews(previews, manifest, data, study, root=site.root):
                console.print(f"preview: {sheet}", highlight=False, soft_wrap=True, markup=False)
    except Problem as problem:
        console.print(f"[red]{_escaped(str(problem))}[/red]", highlight=False, soft_wrap=True)
        return False
    make_deterministic(site.file.device.threads)
    console.print(f"training on: {device_name(device, site.file.device.threads)}", highlight=False)
    if site.file.policy.gpu_gigabytes is not None and device.type != "cuda":
        console.print("policy.gpu_gigabytes has no effect: this site trains without a GPU", highlight=False)
    return _print_steps(site, study, approval.tasks, data, device, console)


def _print_labels(manifest: Manifest, study: Study, console: Console) -> None:
    counts = census(manifest, study)
    table = Table("task", "kind", "class", *SPLITS, title=f"labels of {len(manifest.cases)} images")
    for column in table.columns[3:]:
        column.justify = "right"
    for task in manifest.tasks:
        table.add_row(task, study.tasks[task].kind, "", *(str(counts.labels.get((task, s), 0)) for s in SPLITS))
        names = dict.fromkeys(name for owner, _, name in sorted(counts.classes) if owner == task)
        for name in getattr(study.tasks[task], "classes", names) if names else ():
            table.add_row("", "", name, *(str(counts.classes.get((task, s, name), 0)) for s in SPLITS))
    console.print(table)


def _print_cells(site: Site, console: Console) -> None:
    """Without a study nobody knows what a label means, but files and filled cells can be counted."""
    columns = {task: site.file.data.columns.get(task) or task for task in site.file.tasks}
    rows = read_rows(site, tuple(columns.values()))
    missing = [number for number, row in rows if not _there(row["path"], site.root.resolve())]
    table = Table("task", "column", *SPLITS, title=f"filled cells of {len(rows)} rows")
    for task, column in columns.items():
        filled = Counter(row["split"] for _, row in rows if row[column])
        table.add_row(task, column, *(str(filled[split]) for split in SPLITS))
    console.print(table)
    if missing:
        raise Problem(
            str(site.manifest),
            f"{len(missing)} rows name files that do not exist below data.root, the first of them row {missing[0]}",
            remedy="mend data.root, or these rows",
        )
    console.print("give --study to check labels and images and to train one batch", highlight=False)


def _there(path: str, root: Path) -> bool:
    try:
        inside(path, root, "path")
    except CellError:
        return False
    return True


def _print_census(site: Site, study: Study, manifest: Manifest, console: Console) -> None:
    """Counts that may be handed to a coordinator, as a table and as a file."""
    minimum = site.file.policy.minimum_count
    counted = safe_census(census(manifest, study), study, manifest.tasks, minimum)
    table = Table("task", "split", "class", "labels", title=f"for others: counts below {minimum} are held back")
    table.columns[3].justify = "right"
    for task, splits in counted.items():
        for split, cells in splits.items():
            for name, shown in cells.items():
                table.add_row(task, split, name, shown)
    console.print(table)
    path = site.trainer / "census.json"
    write_census(path, counted, site=site.name, study=study, minimum=minimum)
    console.print(f"written: {path}", highlight=False, soft_wrap=True, markup=False)


def _print_unused(manifest: Manifest, console: Console) -> None:
    if not manifest.unused:
        console.print("every row is used")
        return
    for reason, count in Counter(row.reason for row in manifest.unused).items():
        console.print(f"{count} rows are not used: {reason}", highlight=False)
    for row in manifest.unused[:SHOWN_UNUSED]:
        console.print(f"  row {row.row}: {_escaped(row.path)}", highlight=False)
    if len(manifest.unused) > SHOWN_UNUSED:
        console.print(f"  and {len(manifest.unused) - SHOWN_UNUSED} more", highlight=False)


def _print_steps(
    site: Site, study: Study, tasks: tuple[str, ...], data: Dataset, device: torch.device, console: Console
) -> bool:
    table = Table("task", "one batch", "images", "loss", "seconds", "what to do", title="one training step per task")
    good = True
    for task in tasks:
        images, loss, seconds, remedy = try_step(site, study, task, data, device)
        good = good and not remedy
        verdict = "[red]failed[/red]" if remedy else "[green]ok[/green]"
        table.add_row(task, verdict, str(images), f"{loss:.4f}", f"{seconds:.2f}", _escaped(remedy))
    console.print(table)
    return good


def try_step(site: Site, study: Study, task: str, data: Dataset, device: torch.device) -> tuple[int, float, float, str]:
    """Images, loss, seconds and what to do about it, which is empty when all went well."""
    places = data.cases("train", task)[: study.training.batch]
    run = Run(study=study, site=site.name, round=0, device=device, precision=site.file.device.precision)
    rate = study.training.learning_rate
    began = time.monotonic()
    try:
        model = site_model(study, (task,), site).to(device)
        own = data.only(task, side_names(study, (task,)))
        fit_statistics(model, own)
        optimisers = optimisers_of(model, Phase("check", 1, {"encoder": rate, "private": rate, "personal": rate}), run)
        batch = own.batch(places, device)
        if study.image.window is not None:
            batch = windows(batch, model.kinds, study.image.window, np.random.default_rng(0))
        # a task whose labels in this batch teach nothing, such as times without an event, has no loss
        loss = float(train_step(model, [batch], run, optimisers).losses.get(task, 0.0))
        finite = all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
    except (torch.OutOfMemoryError, MemoryError):
        return len(places), math.nan, time.monotonic() - began, MEMORY
    except RuntimeError as error:
        remedy = MEMORY if "DefaultCPUAllocator" in str(error) else f"{type(error).__name__}: {error}"
        return len(places), math.nan, time.monotonic() - began, remedy
    remedy = "" if finite and np.isfinite(loss) else "the loss is not finite: look at the labels' and images' range"
    return len(places), loss, time.monotonic() - began, remedy


def _escaped(text: str) -> str:
    return escape(text)
