"""How far a probability can be believed, and one number that mends it: temperature scaling.

Guo et al., On Calibration of Modern Neural Networks, arXiv 1706.04599: logits are divided by one T > 0 that minimises
the negative log-likelihood of the validation split (section 4.2). The order of the classes' logits, hence the answer
of a binary or multi-class task, stays what it was.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from polyward_client.site import Site
from polyward_client.trainer.dataset import Loaded, load_dataset
from polyward_client.trainer.evaluate import Gathered, gathered
from polyward_client.trainer.finished import Finished
from polyward_client.trainer.manifest import Manifest, read_manifest
from polyward_client.trainer.tasks import TaskKind
from polyward_client.trainer.vault import keeps_sealed
from polyward_shared.chain import sync_folder
from polyward_shared.problems import Problem

CALIBRATED = frozenset({"binary", "multiclass", "ordinal"})  # the kinds of tasks that can be
BINS = 15  # of the expected calibration error, as in the paper
COLDEST, WARMEST = 0.05, 20.0  # a T at an end is no minimum: the likelihood only falls or rises
FLAT = 1e-6  # what a minimum must lie below both ends: of answers that are all right the loss only falls, to 0
LEAST = 1e-12  # of a probability in a logarithm


@dataclass(frozen=True, slots=True)
class Calibration:
    """The temperature that `cases` validation cases gave, or why there is none."""

    temperature: float | None
    cases: int = 0
    reason: str = ""

    @property
    def divisor(self) -> float:
        return self.temperature or 1.0


@dataclass(frozen=True, slots=True)
class Bin:
    """The cases whose confidence lies in one part of [0, 1]."""

    count: int
    confidence: float  # mean
    accuracy: float


def chances(kind: TaskKind, output: Tensor, temperature: float = 1.0) -> Tensor:
    """Outputs [n, channels, or one more for attention] -> probabilities of the classes [n, classes]."""
    return kind.evidence(output[:, : kind.channels].double() / temperature)


def fit_temperature(kind: TaskKind, found: Gathered, minimum: int) -> Calibration:
    """T of a task's validation cases; none from fewer than `minimum` patients, of one class, or without a minimum."""
    truths, cases = found.truths.long(), len(found.truths)
    patients = len(np.unique(found.patients))
    if patients < minimum:
        return Calibration(None, cases, f"{patients} validation patients, fewer than policy.minimum_count ({minimum})")
    if len(torch.unique(truths)) < 2:
        return Calibration(None, cases, "the validation cases are all of one class")

    def loss(log_temperature: float) -> float:
        return likelihood(kind, found.answers, truths, math.exp(log_temperature))

    ends = math.log(COLDEST), math.log(WARMEST)
    best = math.exp(float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-4}).x))
    gained = min(map(loss, ends)) - loss(math.log(best))
    if not (COLDEST * 1.01 < best < WARMEST / 1.01 and gained > FLAT):
        side = "all right" if best < 1 else "no better than chance"
        return Calibration(None, cases, f"no temperature fits: the answers to the validation cases are {side}")
    return Calibration(best, cases)


def likelihood(kind: TaskKind, output: Tensor, truths: Tensor, temperature: float) -> float:
    """Mean negative log-likelihood of class numbers [n]."""
    given = chances(kind, output, temperature).gather(1, truths[:, None].long())
    return float(-given.clamp(min=LEAST).log().mean())


def bins(probabilities: Tensor, truths: Tensor) -> list[Bin | None]:
    """The cases by the probability of their answer, in `BINS` parts of equal width (the paper's section 2)."""
    confidence, answer = probabilities.max(1)
    right = (answer == truths.long()).double()
    places = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # (m - 1) / M < p <= m / M
    found: list[Bin | None] = []
    for number in range(BINS):
        among = places == number
        count = int(among.sum())
        found.append(Bin(count, float(confidence[among].mean()), float(right[among].mean())) if count else None)
    return found


def expected_error(probabilities: Tensor, truths: Tensor) -> float:
    """The expected calibration error of the answer (arXiv 1706.04599, equation 3), from 0 to 1."""
    counted = [each for each in bins(probabilities, truths) if each]
    return sum(each.count * abs(each.accuracy - each.confidence) for each in counted) / len(truths)


def brier(probabilities: Tensor, truths: Tensor) -> float:
    """Mean squared error of the probabilities: of class 1 alone where there are two classes, else summed over all."""
    wanted = torch.nn.functional.one_hot(truths.long(), probabilities.shape[1]).double()
    apart = (probabilities - wanted).square()
    return float((apart[:, 1] if probabilities.shape[1] == 2 else apart.sum(1)).mean())


def calibrations(finished: Finished, site: Site, loaded: Loaded = lambda done, of: None) -> dict[str, Calibration]:
    """Each task's temperature, where its kind can have one; kept in the trainer's folder until model or table change
    (not beside a sealed vault).

    Without readable validation images no task has one.
    """
    wanted = [task for task in finished.tasks if finished.study.tasks[task].kind in CALIBRATED]
    if not wanted:
        return {}
    path = site.trainer / "calibration" / f"{_key(finished, site, wanted)}.json"
    if path.is_file():
        return {task: Calibration(**values) for task, values in json.loads(path.read_text(encoding="utf-8")).items()}
    try:
        every = tuple(next(iter(finished.models.values())).tasks)
        manifest = only_splits(read_manifest(site, finished.study, every), "val")
        found = split_answers(finished, manifest, "val", loaded)
    except Problem as problem:
        return dict.fromkeys(wanted, Calibration(None, 0, f"the validation images cannot be used: {problem.found}"))
    minimum = site.file.policy.minimum_count
    fitted = {
        task: fit_temperature(finished.model(task).kinds[task], found[task], minimum)
        if task in found
        else Calibration(None, 0, "no validation cases")
        for task in wanted
    }
    if not keeps_sealed(site):  # what was learnt from images must not lie in clear then
        _keep(path, {task: asdict(each) for task, each in fitted.items()})
    return fitted


def only_splits(manifest: Manifest, *splits: str) -> Manifest:
    return replace(manifest, cases=tuple(case for case in manifest.cases if case.split in splits))


@torch.inference_mode()
def split_answers(
    finished: Finished, manifest: Manifest, split: str, loaded: Loaded = lambda done, of: None
) -> dict[str, Gathered]:
    """What each task's model answers to its labelled cases of a split; tasks without a case are absent."""
    if not manifest.cases:
        return {}
    data = load_dataset(manifest, finished.study, loaded=loaded)
    found: dict[str, Gathered] = {}
    for name, model in finished.models.items():
        given = gathered(model, data, finished.study, split, finished.device)
        found |= {task: cases for task, cases in given.items() if finished.answers.get(task) == name}
    return found


def _key(finished: Finished, site: Site, tasks: list[str]) -> str:
    """A name that changes with the models, the table and the policy."""
    running = hashlib.sha256(finished.study.digest().encode())
    said = [finished.round, finished.state_digest, site.file.policy.minimum_count, *site.file.data.rows.items()]
    running.update(repr([*said, *((task, finished.answers[task]) for task in tasks)]).encode())
    running.update(site.manifest.read_bytes() if site.manifest.is_file() else b"")
    return running.hexdigest()[:32]


def _keep(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(".draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    sync_folder(path.parent)
