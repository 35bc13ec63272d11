"""`polyward-node`: looking at the site's data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress as Bar
from rich.table import Table

from polyward_client.cli.app import DATA, SiteArgument, app
from polyward_client.site import Site, read_site
from polyward_shared.commands import out, talk
from polyward_shared.problems import Problem
from polyward_shared.study import read_study


@app.command(rich_help_panel=DATA)
def manifest(
    site: SiteArgument,
    form: Annotated[
        Literal["folder", "nifti", "dicom"] | None,
        typer.Option("--from", help="what the data root holds; recognised if not given"),
    ] = None,
    patient: Annotated[
        str, typer.Option(help="folder: whose image it is: folder, file, or a regular expression with one group")
    ] = "",
    masks: Annotated[str, typer.Option(help="folder: the ending or the folder of masks, such as _mask or masks")] = "",
    suffix: Annotated[str, typer.Option(help="nifti: which images, such as T1w")] = "",
    modality: Annotated[str, typer.Option(help="dicom: only series of this modality, such as CT")] = "",
    description: Annotated[str, typer.Option(help="dicom: only series whose description has this")] = "",
    series: Annotated[
        Literal["largest", "all"] | None, typer.Option(help="dicom: of each study, the series with most slices, or all")
    ] = None,
    sort: Annotated[str, typer.Option(help="dicom: give each series a folder of its own, without names, in here")] = "",
    pseudonyms: Annotated[
        Path | None, typer.Option(help="dicom: a table PatientID,pseudonym; a keyed hash if not given")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="a table of labels (CSV)")] = None,
    on: Annotated[str, typer.Option(help="its column that names the image or the patient")] = "",
    take: Annotated[
        list[str] | None, typer.Option(help="a column that is a label; the site's tasks if not given")
    ] = None,
    fractions: Annotated[str, typer.Option(help="of patients, for train, val and test")] = "0.7,0.1,0.2",
    seed: Annotated[int, typer.Option(help="of the split")] = 0,
    stratify: Annotated[str, typer.Option(help="the label that splits are alike in; the first one with classes")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="write over a manifest that is there")] = False,
) -> None:
    """Make manifest.csv from what lies in the data root: images, masks, labels, and a split by patient."""
    place = read_site(site)
    if bool(labels) != bool(on):
        raise Problem("--labels, --on", "one without the other", expected="both", remedy="--labels TABLE --on COLUMN")
    from polyward_client.trainer.intake.build import rows_of, write_rows
    from polyward_client.trainer.intake.labels import join_labels
    from polyward_client.trainer.intake.series import Wanted
    from polyward_client.trainer.intake.splits import parse_fractions
    from polyward_client.trainer.intake.survey import Asked, survey

    parts = parse_fractions(fractions)
    wanted = Wanted(modality, description, series, sort)
    asked = Asked(form=form, patient=patient, masks=masks, suffix=suffix, series=wanted, pseudonyms=pseudonyms)
    with Bar(console=talk, transient=True) as bar:
        tasks = {what: bar.add_task(what, total=None) for what in ("reading headers", "checking images")}
        seen = survey(place, asked, lambda what, done, of: bar.update(tasks[what], completed=done, total=of))
    patients = len({item.patient for item in seen.found})
    out.print(
        f"[bold]{len(seen.found)} images of {patients} patients[/] in {place.root} ({seen.form})", highlight=False
    )
    _print_notes(seen.notes)
    columns = list(dict.fromkeys(take)) if take else _own_columns(place, {c for item in seen.found for c in item.masks})
    joined = join_labels(seen.found, labels, on, columns) if labels else None
    if joined:
        _print_notes(joined.notes)
    rows, by = rows_of(seen, joined, fractions=parts, seed=seed, stratify=stratify)
    _print_split(rows, by)
    write_rows(place.manifest, rows, replace=replace)
    out.print(f"written: {place.manifest}", highlight=False, soft_wrap=True)
    _print_next(place, site, list(rows[0])[3:])


@app.command(rich_help_panel=DATA)
def check(
    site: SiteArgument,
    study: Annotated[Path | None, typer.Option(help="also train one real batch of each of its tasks")] = None,
    previews: Annotated[
        Path | None, typer.Option(help="the folder for pictures of the data; <state>/trainer/previews if not given")
    ] = None,
    census: Annotated[bool, typer.Option("--census", help="count labels so that the counts may be handed on")] = False,
) -> None:
    """Say what of the data will be used, what will not and why; with --study, train one real batch per task."""
    place, wanted = read_site(site), read_study(study) if study else None
    if wanted is None and (census or previews):
        raise Problem("--census" if census else "--previews", "needs a study", remedy="--study STUDY, which says tasks")
    from polyward_client.trainer.check import run_check  # after reading: importing torch takes seconds

    if not run_check(place, wanted, out, previews=previews or place.trainer / "previews", count=census):
        raise typer.Exit(2)


def _own_columns(place: Site, masks: set[str]) -> list[str]:
    """The columns of the site's tasks, without those that hold masks that were found."""
    columns = (place.file.data.columns.get(task) or task for task in place.file.tasks)
    return [column for column in columns if column not in masks]


def _print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        out.print(f"  {note}", highlight=False, markup=False, soft_wrap=True)


def _print_split(rows: list[dict[str, str]], by: str) -> None:
    table = Table("split", "patients", "images", title=f"split by patient{f', alike in {by}' if by else ''}")
    values = sorted({row[by] for row in rows} - {""}) if by else []
    for heading in values:
        table.add_column(f"{by} {heading}")
    for column in table.columns[1:]:
        column.justify = "right"
    for split in dict.fromkeys(("train", "val", "test")):
        own = [row for row in rows if row["split"] == split]
        counts = (str(sum(row[by] == value for row in own)) for value in values)
        table.add_row(split, str(len({row["patient_id"] for row in own})), str(len(own)), *counts)
    out.print(table)


def _print_next(place: Site, site: Path, columns: list[str]) -> None:
    if not place.file.tasks:
        out.print(f"next: name the site's tasks in {site}: {', '.join(columns) or 'their labels are still missing'}")
    own = place.file.data.columns
    for task in place.file.tasks:
        if own.get(task, task) not in columns:
            out.print(
                f"next: {task} has no column {own.get(task, task)} yet; if it is another of {', '.join(columns)}, "
                f"name that under [data.columns] in {site}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
    out.print(f"next: polyward-node check {site} --study STUDY", highlight=False, soft_wrap=True, markup=False)
