"""`polyward-node`: using the models, and seeing how they do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress, TaskID

from polyward_client.cli.app import MODELS, SiteArgument, StateOption, StudyArgument, app
from polyward_client.gains import print_gains
from polyward_client.site import read_site
from polyward_shared.commands import out, talk
from polyward_shared.problems import Problem
from polyward_shared.study import read_study

TaskOption = Annotated[
    list[str] | None, typer.Option("--task", help="only this task; may be given several times", metavar="TASK")
]
ModelOption = Annotated[
    Literal["kept", "federated", "alone"], typer.Option(help="the model that answers; kept: each task's own")
]
SplitOption = Annotated[Literal["train", "val", "test"], typer.Option(help="the cases that are measured")]


@app.command(rich_help_panel=MODELS)
def learning(
    site: SiteArgument,
    state: StateOption = None,
) -> None:
    """Show how training goes here: each task's loss, its weight, and which tasks pull apart. Nothing of it leaves."""
    place = read_site(site, state=state)
    from polyward_client.trainer.learning import print_learning

    if not print_learning(place, out):
        talk.print(f"nothing has been trained at {place.name} yet")


@app.command(rich_help_panel=MODELS)
def gains(
    site: SiteArgument,
    state: StateOption = None,
) -> None:
    """Show what federation gave each task here, against training alone, from the figures that were sent."""
    place = read_site(site, state=state)
    if not print_gains(place, out):
        talk.print(f"{place.name} has sent no figures of an approved study yet; they come with the first round")


@app.command(rich_help_panel=MODELS)
def predict(
    site: SiteArgument,
    study: StudyArgument,
    source: Annotated[
        Path, typer.Argument(help="an image, a folder of images or DICOM series, or a table", metavar="INPUT")
    ],
    output: Annotated[Path, typer.Argument(help="the new folder for the answers", metavar="OUTPUT")],
    task: TaskOption = None,
    model: ModelOption = "kept",
    explain: Annotated[bool, typer.Option("--explain", help="also draw where each class was seen (Grad-CAM)")] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="also write the probability of each class at each place")
    ] = False,
    state: StateOption = None,
) -> None:
    """Answer for images with the models of a finished study: a table, masks, attention maps. Nothing of it leaves."""
    place, wanted = read_site(site, state=state), read_study(study)
    from polyward_client.trainer.finished import load_finished
    from polyward_client.trainer.predict import TABLE, Asked, predict_images

    finished = load_finished(place, wanted, model, task or ())
    with Progress(console=talk, transient=True) as bar:
        told = predict_images(finished, place, source, output, Asked(explain, probabilities), _shown(bar))
    for name, calibration in told.calibrations.items():
        if calibration.temperature is None:
            said = f"{name}: probabilities are not calibrated: {calibration.reason}"
            talk.print(said, highlight=False, markup=False, soft_wrap=True)
    for name, problem in told.failed.items():
        talk.print(f"{name}: {problem}", highlight=False, markup=False, soft_wrap=True)
    good = told.images - len(told.failed)
    out.print(f"{good} of {told.images} images answered: {output / TABLE}", highlight=False, soft_wrap=True)
    if told.failed:
        raise typer.Exit(2)


@app.command(rich_help_panel=MODELS)
def evaluate(
    site: SiteArgument,
    study: StudyArgument,
    split: SplitOption = "test",
    output: Annotated[Path | None, typer.Option(help="a new folder for table and drawings")] = None,
    task: TaskOption = None,
    model: ModelOption = "kept",
    resamples: Annotated[int, typer.Option(help="bootstrap draws of patients for the intervals", min=0)] = 1000,
    state: StateOption = None,
) -> None:
    """Measure the models of a finished study on this site's cases, for the site's own eyes. Nothing of it leaves."""
    place, wanted = read_site(site, state=state), read_study(study)
    from polyward_client.trainer.appraisal import appraisal_table, appraise, write_appraisal
    from polyward_client.trainer.finished import load_finished
    from polyward_client.trainer.outputs import check_free, whole_folder

    if output is not None:
        check_free(output)
    finished = load_finished(place, wanted, model, task or ())
    with Progress(console=talk, transient=True) as bar:
        found = appraise(finished, place, split, resamples, _shown(bar))
    if not found:
        raise Problem(
            f"the split {split}", "holds no case that is labelled for these tasks", remedy="choose another --split"
        )
    out.print(appraisal_table(found, finished, split))
    if output is not None:
        with whole_folder(output) as draft:
            write_appraisal(draft, found, finished)
        out.print(f"table and drawings: {output}", highlight=False, soft_wrap=True)


@app.command(rich_help_panel=MODELS)
def export(
    site: SiteArgument,
    study: StudyArgument,
    output: Annotated[Path, typer.Argument(help="the new folder for the model", metavar="OUTPUT")],
    form: Annotated[
        Literal["bundle", "torchscript", "torch-export", "onnx", "safetensors"],
        typer.Option("--format", help="bundle: one MONAI bundle for each task"),
    ] = "torchscript",
    task: TaskOption = None,
    model: ModelOption = "kept",
    state: StateOption = None,
) -> None:
    """Write encoder and branches for use elsewhere, with a model card; read them back and compare the answers."""
    place, wanted = read_site(site, state=state), read_study(study)
    from polyward_client.trainer.export.write import export_models
    from polyward_client.trainer.finished import load_finished

    finished = load_finished(place, wanted, model, task or ())
    with Progress(console=talk, transient=True) as bar:
        written = export_models(finished, place, form, output, _shown(bar))
    for line in written:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _shown(bar: Progress) -> Callable[[str, int, int], None]:
    """A watcher that moves the bar: a line for each thing that is done."""
    lines: dict[str, TaskID] = {}

    def watch(what: str, done: int, of: int) -> None:
        if what not in lines:
            lines[what] = bar.add_task(what, total=of)
        bar.update(lines[what], completed=done, total=of)

    return watch
