"""The models of a finished study, as the vault keeps them, ready to answer: one or several, each for its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from polyward_client.approvals import read_approval
from polyward_client.site import Site
from polyward_client.trainer.beside import load_state
from polyward_client.trainer.dataset import Batch
from polyward_client.trainer.evaluate import predict
from polyward_client.trainer.model import MultiTaskModel, site_model
from polyward_client.trainer.trainer import chosen_device, make_deterministic
from polyward_client.trainer.vault import open_vault, taken_apart
from polyward_shared.messages import Kept
from polyward_shared.problems import Problem
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study

Which = Literal["kept", "federated", "alone"]


@dataclass(frozen=True, slots=True)
class Finished:
    """A site's models of a study after the final tuning: `answers` names the one that speaks for each task."""

    study: Study
    models: dict[Kept, MultiTaskModel]
    answers: dict[str, Kept]
    round: int
    state_digest: str  # of the federation's last state
    device: torch.device

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.answers)

    def model(self, task: str) -> MultiTaskModel:
        return self.models[self.answers[task]]

    @torch.inference_mode()
    def outputs(self, images: Tensor, side: Tensor | None) -> dict[str, Tensor]:
        """Images [batch, channels, *spatial] in the study's form -> each task's output, float32 on the CPU."""
        images, side = images.to(self.device), None if side is None else side.to(self.device)
        found: dict[str, Tensor] = {}
        for name, model in self.models.items():
            counts = {task: len(images) for task in self.tasks if self.answers[task] == name}
            noise = torch.Generator(self.device).manual_seed(seed_for(self.study.seed, "noise", "predict"))
            given = predict(model, Batch(images, {}, {}, counts, side=side), self.study, noise)
            found |= {task: given[task].float().cpu() for task in counts}
        return {task: found[task] for task in self.tasks}


def load_finished(site: Site, study: Study, which: Which = "kept", tasks: Sequence[str] = ()) -> Finished:
    """The models that answer for these tasks, for all of the site's when none is named. Raises `Problem`."""
    digest = study.digest()
    approval = read_approval(site.approved, digest)
    if approval is None:
        raise Problem(
            study.id,
            "is not approved at this site, so there is no model of it",
            expected="the study's file as it was approved",
            remedy="give the file that was approved, or approve the study and take part in it",
        )
    if unknown := [task for task in tasks if task not in approval.tasks]:
        raise Problem("--task", f"found {unknown[0]!r}", expected=f"one of {', '.join(approval.tasks)}")
    vault = open_vault(site, digest)
    entry = vault.final()
    if entry is None:
        raise Problem(
            study.id,
            "is not finished at this site, so no model of it has been kept yet",
            remedy="wait for the study's end: polyward-node status SITE shows how far it is",
        )
    states = taken_apart(vault.arrays(entry))
    wanted = [task for task in approval.tasks if task in tasks or not tasks]
    answers: dict[str, Kept] = {
        task: entry.kept.get(task, "federated") if which == "kept" else which for task in wanted
    }
    if missing := sorted(set(answers.values()) - states.keys()):
        raise Problem(
            "--model",
            f"found {missing[0]}, of which the vault has no final state",
            expected=f"kept, or one of {', '.join(sorted(states))}",
            remedy="the site kept another model for every task; leave --model out to use it",
        )
    make_deterministic(site.file.device.threads)
    device, models = chosen_device(site.file.device.kind), {}
    for name in dict.fromkeys(answers.values()):
        model = site_model(approval.study, approval.tasks, site)
        with torch.no_grad():
            load_state(model, states[name])
        models[name] = model.to(device).eval()
    return Finished(approval.study, models, answers, entry.round, entry.state_digest, device)
