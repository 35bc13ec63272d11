"""`polyward-node export`: writes the models, reads them back as their next user will, and compares the answers.

Where a comparison fails, nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from polyward_client.site import Site
from polyward_client.trainer.appraisal import appraise
from polyward_client.trainer.calibration import calibrations
from polyward_client.trainer.export.bundle import read_bundle, write_bundle
from polyward_client.trainer.export.card import LICENCE, make_card, may_travel, write_card
from polyward_client.trainer.export.deployed import Deployed, deployed
from polyward_client.trainer.export.formats import FORMATS, Answer, Form, Inputs, as_tuple, quiet
from polyward_client.trainer.finished import Finished
from polyward_client.trainer.form import shaped
from polyward_client.trainer.images import read_image
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.outputs import whole_folder
from polyward_shared.problems import Problem

TOLERANCE = 1e-4  # of an answer, or as a share of the largest where answers exceed 1: kernels add up in other orders
REAL_IMAGES = 4
SPLIT = "test"  # whose figures stand in the card
Watch = Callable[[str, int, int], None]


def export_models(
    finished: Finished, site: Site, form: Form | Literal["bundle"], output: Path, watch: Watch
) -> list[str]:
    """Writes the new folder `output`, whole or not at all; returns what a person should read. Raises `Problem`."""
    check_exportable(finished, form)
    fitted = calibrations(finished, site, lambda done, of: watch("reading validation images", done, of))
    try:
        appraised = may_travel(appraise(finished, site, SPLIT, 0, watch), finished, site.file.policy.minimum_count)
    except Problem:  # the site's images are elsewhere; the card says that there are no figures
        appraised = {}
    images, real = trial_images(finished, site)
    parts = [(task,) for task in finished.tasks] if form == "bundle" else [finished.tasks]
    lines = []
    with whole_folder(output) as home:
        for done, tasks in enumerate(parts, start=1):
            folder = home / tasks[0] if form == "bundle" else home
            module = deployed(finished, fitted, tasks)
            card = make_card(finished, site, module, fitted, appraised, SPLIT)
            difference = _write_part(finished, site, form, folder, module, card, images)
            where = output / folder.relative_to(home)
            lines.append(
                f"{where}: {', '.join(tasks)}; read back and compared on {real} real and {len(images[0]) - real} "
                f"random images: largest difference {difference:.1e}, allowed {TOLERANCE:.0e}"
            )
            watch("writing", done, len(parts))
    return lines


def _write_part(
    finished: Finished,
    site: Site,
    form: Form | Literal["bundle"],
    folder: Path,
    module: Deployed,
    card: Mapping[str, Any],
    images: Inputs,
) -> float:
    """Writes one module with its card and returns by how much it answers otherwise once it is read back."""
    folder.mkdir(parents=True, exist_ok=True)
    example = tuple(each[:2].clone() for each in images)
    try:
        with quiet(), torch.no_grad():
            if form == "bundle":
                write_bundle(folder, finished.study, module, example, card)
                answer = read_bundle(folder)
            else:
                chosen = FORMATS[form]
                chosen.write(module, example, folder / chosen.name)
                write_card(folder, card, chosen.how)
                answer = chosen.read(folder / chosen.name, finished, site, module)
            difference = largest_difference(module, answer, images)
    except (OSError, Problem):
        raise
    except Exception as error:  # exporters and run-times raise whatever they like
        raise Problem(
            f"--format {form}",
            f"this model cannot be written so ({type(error).__name__}: {_first_line(error)})",
            remedy="choose another --format; safetensors can hold every model",
        ) from error
    if not difference <= TOLERANCE:  # NaN is not
        raise Problem(
            f"--format {form}",
            f"once read back it answers otherwise, by up to {difference:.1e}",
            expected=f"at most {TOLERANCE:.0e}",
            remedy="choose another --format; nothing was written",
        )
    (folder / "LICENSE").write_text(LICENCE, encoding="utf-8")
    if form == "safetensors":
        (folder / "study.json").write_text(finished.study.canonical() + "\n", encoding="utf-8")
    return difference


def check_exportable(finished: Finished, form: Form | Literal["bundle"]) -> None:
    """Raises `Problem` for what no file of this form can hold."""
    study = finished.study
    if form == "onnx" and (missing := [name for name in ("onnx", "onnxruntime", "onnxscript") if not find_spec(name)]):
        raise Problem(
            "--format onnx",
            f"{missing[0]} is not installed",
            remedy="pip install 'polyward[export]', or another format",
        )
    if form == "safetensors":
        return
    for task in finished.tasks:
        graph = finished.model(task).interaction.graph
        needed = graph.needed([task])
        if any(edge.passes for name in needed for edge in graph.into.get(name, ())):
            raise Problem(
                f"--format {form}",
                f"{task} rests on Monte-Carlo passes, which draw anew at every answer",
                remedy="export it as safetensors, or another task with --task",
            )
        if getattr(study.tasks[task], "pooling", "mean") == "attention":
            raise Problem(
                f"--format {form}",
                f"{task} weighs the images of a group against each other, but a file sees one image at a time",
                remedy="export it as safetensors, or another task with --task",
            )
    if form == "bundle" and next(iter(finished.models.values())).input_adapter.names:
        raise Problem(
            "--format bundle",
            "the models take inputs besides the image, for which a MONAI bundle's network has no place",
            remedy="choose torchscript, torch-export, onnx or safetensors",
        )


@torch.no_grad()
def largest_difference(module: Deployed, answer: Answer, images: Inputs) -> float:
    """Over one image, over all and over all but one: a batch size that the file has frozen shows itself.

    Both sides begin with the same random numbers, for what draws at every answer.
    """
    worst = 0.0
    for part in (slice(0, 1), slice(None), slice(1, None)):
        given = tuple(each[part].contiguous() for each in images)
        wanted, found = _seeded(lambda each: as_tuple(module(*each)), given), _seeded(answer, given)
        for ours, theirs in zip(wanted, found, strict=True):
            if ours.shape != theirs.shape:
                raise ValueError(f"found the shape {list(theirs.shape)} instead of {list(ours.shape)}")
            apart = float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1))
            worst = apart if not apart <= worst else worst
    return worst


def _seeded(answer: Answer, given: Inputs) -> tuple[Tensor, ...]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return answer(given)


def trial_images(finished: Finished, site: Site) -> tuple[Inputs, int]:
    """Images in the study's form, and side inputs where there are any: some of the site's, as many random ones.

    Returns how many are real: none where the site's images are elsewhere.
    """
    image = finished.study.image
    generator = torch.Generator().manual_seed(finished.study.seed)
    drawn = torch.rand((REAL_IMAGES, image.channels, *image.seen), generator=generator)
    real, sides = _real_images(finished, site)
    images = torch.cat((*real, drawn)) if real else drawn
    names = next(iter(finished.models.values())).input_adapter.names
    if not names:
        return (images,), len(real)
    unknown = [(float("nan"),) * len(names)] * REAL_IMAGES
    return (images, torch.tensor([*sides, *unknown])), len(real)


def _real_images(finished: Finished, site: Site) -> tuple[list[Tensor], Sequence[tuple[float, ...]]]:
    image, found, sides = finished.study.image, [], []
    try:
        tasks = next(iter(finished.models.values())).tasks
        for case in read_manifest(site, finished.study, tasks).cases[:REAL_IMAGES]:
            values = shaped(read_image(case.path, len(image.size)), image, where=case.path.name)
            corner = tuple(slice(0, side) for side in image.seen)
            found.append(torch.from_numpy(values[(slice(None), *corner)]).float()[None])
            sides.append(case.side)
    except Problem:
        return [], []
    return found, sides


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:200]
