"""What a model's next reader must know: `model.json` for programs, `README.md` for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from polyward_client.site import Site
from polyward_client.trainer.appraisal import Appraisal
from polyward_client.trainer.calibration import CALIBRATED, Calibration
from polyward_client.trainer.export.deployed import Deployed, meaning
from polyward_client.trainer.finished import Finished

USE = "Research use only. This model is not a medical device and has not been approved for the care of patients."
LICENCE = (
    "The owner of these weights has stated no licence yet. Without one, nobody but the owner may use or pass them on.\n"
    "They were trained on patients' images: ask the hospital that wrote this folder before you copy it.\n"
)
INTENSITY = {
    "minmax": "each channel from its smallest value to its largest, to 0..1",
    "zscore": "each channel less its mean, divided by its standard deviation",
}


def make_card(
    finished: Finished,
    site: Site,
    module: Deployed,
    calibrations: Mapping[str, Calibration],
    appraised: Mapping[str, Appraisal],
    split: str,
) -> dict[str, Any]:
    """The card of these tasks. Figures that rest on fewer cases than the site's minimum are left out: cards travel."""
    study = finished.study
    return {
        "study": study.id,
        "study_digest": study.digest(),
        "round": finished.round,
        "state_digest": finished.state_digest,
        "site": site.name,
        "software": {name: version(name) for name in ("polyward", "torch", "monai")},
        "use": USE,
        "input": {
            "name": "image",
            "channels": study.image.channels,
            "size": list(study.image.seen),
            "image_size": list(study.image.size),
            "window": list(study.image.window) if study.image.window else None,
            "spacing_mm": list(study.image.spacing) if study.image.spacing else None,
            "intensity": study.image.intensity,
            "order": "rows, columns" if len(study.image.size) == 2 else "right, anterior, superior",
            "side": [{"name": name, **study.side[name].model_dump(mode="json")} for name in module.inputs],
        },
        "tasks": [_task(finished, module, task, calibrations.get(task), appraised.get(task)) for task in module.tasks],
        "figures_of_split": split,
        "minimum_count": site.file.policy.minimum_count,
    }


def _task(
    finished: Finished, module: Deployed, task: str, calibration: Calibration | None, appraisal: Appraisal | None
) -> dict[str, Any]:
    kind, definition = module.kinds[task], finished.study.tasks[task]
    what, channels = meaning(kind)
    calibrated = None
    if definition.kind in CALIBRATED:
        calibrated = calibration.temperature if calibration else None
    figures = [
        {"name": row.name, "value": round(row.value, 6), "n": row.count}
        for row in (appraisal.figures if appraisal else ())
    ]
    group = getattr(definition, "group", None)
    return {
        "name": task,
        "kind": definition.kind,
        "model": finished.answers[task],
        "output": what,
        "channels": channels,
        "unit": getattr(definition, "unit", ""),
        "temperature": calibrated,
        "group": f"one answer for each image; the study takes the mean logit of a {group}" if group else None,
        "figures": figures,
    }


def may_travel(appraised: Mapping[str, Appraisal], finished: Finished, minimum: int) -> dict[str, Appraisal]:
    """Those of tasks whose figures rest on enough patients, and on enough cases of the rarest class."""
    return {
        task: each
        for task, each in appraised.items()
        if len(np.unique(each.found.patients)) >= minimum
        and finished.model(task).kinds[task].smallest(each.found.truths) >= minimum
    }


def write_card(folder: Path, card: Mapping[str, Any], how: Sequence[str]) -> None:
    """`model.json` and `README.md`; `how` are the lines that say how to load the model."""
    (folder / "model.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme(card, how), encoding="utf-8")


def readme(card: Mapping[str, Any], how: Sequence[str]) -> str:
    given = card["input"]
    intensity = given["intensity"]
    bounds = INTENSITY.get(intensity) if isinstance(intensity, str) else f"clipped to {intensity}, then to 0..1"
    lines = [
        f"# {card['study']}: {', '.join(task['name'] for task in card['tasks'])}",
        "",
        f"**{card['use']}**",
        "",
        f"Trained in the federated study `{card['study']}` (digest `{card['study_digest']}`), final after round "
        f"{card['round']}, at the site `{card['site']}`.",
        "",
        "## Input",
        "",
        f"`image`: float32 [batch, {given['channels']}, {', '.join(map(str, given['size']))}], axes in the order "
        f"{given['order']}. In this order:",
        "",
        f"1. intensities: {bounds}",
        f"2. size: linear, aspect kept, to the largest that fits into {given['image_size']}"
        + (f", at a spacing of {given['spacing_mm']} mm where that fits" if given["spacing_mm"] else "")
        + "; a side that shrinks by f is smoothed first by a Gaussian of (f - 1) / 2 pixels",
        "3. zeros around it, half on each side",
    ]
    if given["window"]:
        lines.append("4. windows: Gaussian weights, a quarter of overlap; the model sees one window at a time")
    if given["side"]:
        names = ", ".join(side["name"] for side in given["side"])
        lines += ["", f"`side`: float32 [batch, {len(given['side'])}], in this order: {names}; NaN where unknown, a "
                  "class by its place in the study."]  # fmt: skip
    lines += ["", "## Output", ""]
    for task in card["tasks"]:
        lines += _told(task, card)
    return "\n".join([*lines, "## How to load it", "", *how, ""])


def _told(task: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    channels = ", ".join(f"{place} {name}" for place, name in task["channels"].items())
    lines = [
        f"### {task['name']} ({task['kind']}, the site's {task['model']} model)",
        "",
        f"{task['output']}: {channels}.",
    ]
    if task["kind"] in CALIBRATED:
        calibrated = f"calibrated with the temperature {task['temperature']:.4f}" if task["temperature"] else None
        lines.append(f"Probabilities are {calibrated or 'not calibrated'}.")
    if task["kind"] == "regression":
        lines.append("The model holds the mean and the spread of this site's training labels.")
    if task["group"]:
        lines.append(f"{task['group']}.")
    lines.append("")
    if task["figures"]:
        lines += [f"On this site's {card['figures_of_split']} cases:", "", "| figure | value | n |", "|---|---|---|"]
        lines += [f"| {row['name']} | {row['value']:.4f} | {row['n']} |" for row in task["figures"]]
        lines.append("")
    else:
        lines += [f"No figures: fewer than {card['minimum_count']} cases behind them.", ""]
    return lines
