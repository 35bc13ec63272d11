"""The part of the preflight that needs torch: the device, and one real batch of each task of a study."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from polyward_client.preflight import Finding
from polyward_client.site import Site
from polyward_client.trainer.approve import make_approval
from polyward_client.trainer.check import try_step
from polyward_client.trainer.dataset import load_dataset
from polyward_client.trainer.manifest import read_manifest
from polyward_client.trainer.trainer import chosen_device, device_name, make_deterministic
from polyward_shared.problems import Problem
from polyward_shared.study import Study

LITTLE_MEMORY = 4 << 30  # bytes


def device_finding(site: Site) -> Finding:
    """What trains, and how much of its memory is free."""
    try:
        device = chosen_device(site.file.device.kind)
    except Problem as problem:
        return Finding("device", "FAIL", f"{problem.where}: {problem.found}", problem.remedy)
    name = device_name(device, site.file.device.threads)
    if device.type != "cuda":
        return Finding("device", "ok", f"{name}; no GPU is used")
    free, total = torch.cuda.mem_get_info(device)
    found = f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GB free"
    if free < LITTLE_MEMORY:
        return Finding("device", "warn", found, "see who uses the GPU: nvidia-smi")
    return Finding("device", "ok", found)


def batch_findings(site: Site, study: Study) -> Iterator[Finding]:
    """One real training step for each task, on this site's own images."""
    try:
        approval = make_approval(study, site)
        device = chosen_device(site.file.device.kind)
        data = load_dataset(read_manifest(site, study, approval.tasks), study)
    except Problem as problem:
        yield Finding("study", "FAIL", f"{problem.where}: {problem.found}", problem.remedy)
        return
    make_deterministic(site.file.device.threads)
    for task in approval.tasks:
        images, loss, seconds, remedy = try_step(site, study, task, data, device)
        found = f"one batch of {images} images, {seconds:.1f} s"
        if remedy:
            yield Finding(f"task {task}", "FAIL", found, remedy)
        else:
            yield Finding(f"task {task}", "ok", f"{found}, loss {loss:.3f}")
