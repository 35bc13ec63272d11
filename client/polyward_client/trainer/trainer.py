"""The trainer that the gate asks: approved studies in, finished updates in the spool out.

It keeps images and model in memory between rounds. Every answer depends on the order, the images and the vault alone,
so the same order gives the same bytes, whatever ran before. The order of writing makes `kill -9` harmless: first the
vault's entry of the round, with the models that are trained beside the federated one, then the update, then the record
that says the round is done. Without that record the round is trained again from the entry of the round *before*, and
repeats itself.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError

from polyward_client.approvals import Approval, approved_now
from polyward_client.port.interface import Description, Done, Progress, Watcher, Work
from polyward_client.site import ONLY_GPU, Site
from polyward_client.trainer.beside import (
    Turn,
    chosen,
    encoder_of,
    first_state,
    judged,
    kept_figures,
    state_of,
    work_beside,
)
from polyward_client.trainer.dataset import Dataset, load_dataset
from polyward_client.trainer.journal import write_epoch
from polyward_client.trainer.manifest import Census, census, read_manifest
from polyward_client.trainer.model import (
    MultiTaskModel,
    load_personal,
    load_shared,
    personal_arrays,
    personal_names,
    shared_arrays,
    site_model,
)
from polyward_client.trainer.round import Run, finish_round, fit_statistics, train_round
from polyward_client.trainer.spool import Spool
from polyward_client.trainer.vault import Vault, keeps_sealed, open_vault, side_by_side, taken_apart
from polyward_shared.messages import Kept, Metric
from polyward_shared.problems import Code, Problem, Refused
from polyward_shared.states import Arrays, read_state

log = logging.getLogger(__name__)

TOLD_EVERY = 50  # images, while they are read
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
KEPT_BYTES = 1 << 30
LARGEST_BLOCK = 1 << 25  # the most that glibc accepts
FULL_DISK = {errno.ENOSPC, errno.EDQUOT}


@dataclass(slots=True)
class _Prepared:
    """A study, ready to train: kept in memory until another study is asked for or the manifest changes."""

    approval: Approval
    counts: Census
    data: Dataset
    model: MultiTaskModel
    start: Arrays  # the whole first state
    stamp: tuple[int, int]


class LocalTrainer:
    """One site's trainer: a `Trainer` in this process. One piece of work at a time."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.device = chosen_device(site.file.device.kind)
        hold_gpu_memory(self.device, site.file.policy.gpu_gigabytes)
        self._cancelled = threading.Event()
        self._closed = threading.Event()
        self._busy = threading.Lock()
        self._prepared: _Prepared | None = None
        make_deterministic(site.file.device.threads)
        keep_freed_memory()

    def describe(self, study: str) -> Description:
        """Counts of training labels from the manifest alone, and the first state."""
        with _refusals():
            approval = self._approval(study)
            counts = census(read_manifest(self.site, approval.study, approval.tasks), approval.study)
            spool = Spool(self.site.spool, study)
            if not spool.first.is_file():
                first = shared_arrays(site_model(approval.study, approval.tasks, self.site), approval.study)
                spool.keep_first(first)
            return Description(
                samples=counts.samples,
                counts=_train_counts(approval, counts),
                first=str(spool.first),
                software=software(),
                device=device_name(self.device, self.site.file.device.threads),
            )

    def train(self, work: Work, watch: Watcher) -> Done:
        """One round; a finished one is answered from the spool."""
        return self._once(work, watch, final=False)

    def finish(self, work: Work, watch: Watcher) -> Done:
        """The final tuning; the whole model stays in the vault."""
        return self._once(work, watch, final=True)

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self) -> None:
        """Takes no more work, and returns once the work in progress has ended with its batch; what waits is refused."""
        self._closed.set()
        with self._busy:
            pass

    def _ends(self) -> bool:
        return self._cancelled.is_set() or self._closed.is_set()

    def _once(self, work: Work, watch: Watcher, *, final: bool) -> Done:
        with self._busy, _refusals():
            if self._closed.is_set():
                raise Refused(Code.CANCELLED, "the trainer is being stopped")
            self._cancelled.clear()
            spool = Spool(self.site.spool, work.study)
            known = spool.done(work.round, work.state_digest, final=final)
            return known or self._work(work, watch, spool, final=final)

    def _work(self, work: Work, watch: Watcher, spool: Spool, *, final: bool) -> Done:
        began = time.monotonic()
        vault = open_vault(self.site, work.study)
        if not final:
            vault.expect(work.round)
        prepared = self._ready(work.study, watch)
        model, study = prepared.model, prepared.approval.study
        received = self._received(work, prepared.approval)
        entry = vault.latest_before(work.round + 1 if final else work.round)
        last = taken_apart(vault.arrays(entry)) if entry else {}
        run = Run(
            study=study,
            site=self.site.name,
            round=work.round,
            device=self.device,
            precision=self.site.file.device.precision,
            minimum=self.site.file.policy.minimum_count,
            watch=watch,
            journal=partial(write_epoch, self.site.journal / f"{work.study}.jsonl"),
            cancelled=self._ends,
            pull=study.training.proximal,
            received=received,
            previous=last.get("previous"),
            joins=entry is None and work.round > 1,
        )
        load_shared(model, study, received)
        personal = personal_names(model, study)
        load_personal(model, study, last.get("federated", {n: a for n, a in prepared.start.items() if n in personal}))
        done = (self._finished if final else self._trained)(work, prepared, run, last, vault, spool)
        done = done.model_copy(update={"seconds": time.monotonic() - began})
        spool.keep_done(done, work.round, work.state_digest, final=final)
        return done

    def _trained(
        self, work: Work, prepared: _Prepared, run: Run, last: Mapping[str, Arrays], vault: Vault, spool: Spool
    ) -> Done:
        """A round of every model, from the federated one that is loaded; what stays, then what leaves, is written."""
        approval, model = prepared.approval, prepared.model
        trained = train_round(model, prepared.data, run)
        update = {**shared_arrays(model, approval.study), **trained.precision}
        models = {"federated": personal_arrays(model, approval.study)}
        if approval.study.training.contrast:
            models["previous"] = encoder_of(state_of(model))
        turns = self._beside(prepared, run, last, final=False)
        models |= {name: turn.state for name, turn in turns.items()}
        vault.keep(side_by_side(models), round=work.round, state_digest=work.state_digest, tasks=approval.tasks)
        path = spool.keep_update(update, work.round, work.state_digest)
        rows = [*trained.metrics, *(row for turn in turns.values() for row in turn.metrics)]
        return _done(prepared, rows, update=str(path), steps=trained.steps)

    def _finished(
        self, work: Work, prepared: _Prepared, run: Run, last: Mapping[str, Arrays], vault: Vault, spool: Spool
    ) -> Done:
        """The final tuning of every model, and the choice among them; the chosen ones stay, and the federated one."""
        approval, model = prepared.approval, prepared.model
        trained = finish_round(model, prepared.data, run)
        figures = judged(model, prepared.data, run) if approval.models else {}
        federated = Turn(state_of(model), trained.metrics, figures)
        turns: dict[Kept, Turn] = {"federated": federated, **self._beside(prepared, run, last, final=True)}
        judgements = {name: turn.judged for name, turn in turns.items()}
        kept = chosen(approval, judgements, self.site.file.policy.keeps)
        wanted = {"federated", *kept.values()}
        vault.keep_final(
            side_by_side({name: turn.state for name, turn in turns.items() if name in wanted}),
            round=work.round,
            state_digest=work.state_digest,
            tasks=approval.tasks,
            kept=kept,
        )
        rows = [row for turn in turns.values() for row in turn.metrics]
        return _done(prepared, [*rows, *kept_figures(rows, kept)], kept=kept)

    def _beside(self, prepared: _Prepared, run: Run, last: Mapping[str, Arrays], *, final: bool) -> dict[Kept, Turn]:
        """The turns of the personal models, each from its last state; without one, from the study's first."""
        names = [name for name in prepared.approval.models if name != "federated"]
        begun = {name: last.get(name) or first_state(prepared.start, run) for name in names}
        return {name: work_beside(prepared.model, prepared.data, run, name, begun[name], final=final) for name in names}

    def _ready(self, study: str, watch: Watcher) -> _Prepared:
        info = self.site.manifest.stat() if self.site.manifest.exists() else None
        stamp = (info.st_mtime_ns, info.st_size) if info else (0, 0)
        approval = self._approval(study)
        kept = self._prepared
        if kept and kept.approval == approval and kept.stamp == stamp:
            return kept
        self._prepared = kept = None  # frees the memory before it is needed again
        manifest = read_manifest(self.site, approval.study, approval.tasks)

        def loaded(done: int, of: int) -> None:
            if self._ends():
                raise Refused(Code.CANCELLED, "while images were read")
            if done % TOLD_EVERY == 0 or done == of:
                watch(Progress(phase="loading", epoch=done, epochs=of))

        folder = self.site.cache / study[:16] if self.site.file.device.cache == "disk" else None
        if keeps_sealed(self.site):
            shutil.rmtree(self.site.cache, ignore_errors=True)  # of a node that was killed while it read
        try:
            data = load_dataset(manifest, approval.study, loaded=loaded, folder=folder).moved(self.device)
        finally:
            if keeps_sealed(self.site):  # mapped, it stays usable until this process ends, and nobody else can open it
                shutil.rmtree(self.site.cache, ignore_errors=True)
        model = site_model(approval.study, approval.tasks, self.site).to(self.device)
        fit_statistics(model, data)
        self._prepared = _Prepared(approval, census(manifest, approval.study), data, model, state_of(model), stamp)
        return self._prepared

    def _approval(self, study: str) -> Approval:
        return approved_now(self.site.approved, study)

    def _received(self, work: Work, approval: Approval) -> Arrays:
        """The state that the order names, which the gate has put into the spool."""
        path = Path(work.state)
        if not path.resolve().is_relative_to(self.site.spool.resolve()) or not path.is_file():
            raise Refused(Code.STATE_UNKNOWN, "the state is not in the spool")
        arrays = read_state(path)
        if approval.schema.state_digest(approval.schema.pack(arrays)) != work.state_digest:
            raise Refused(Code.STATE_MISMATCH, "the state in the spool is not the one that the order names")
        return arrays


def chosen_device(kind: str) -> torch.device:
    """`auto` is the first GPU where there is one. Raises `Problem` for a GPU that is not there.

    In a container that was given one GPU of several, the environment says that it is the first one.
    """
    kind = os.environ.get(ONLY_GPU, kind)
    present = torch.cuda.is_available()
    if kind == "auto":
        return torch.device("cuda" if present else "cpu")
    if kind.startswith("cuda") and not present:
        raise Problem("device.kind", f"{kind!r}, but torch sees no GPU here", remedy="use auto or cpu")
    return torch.device(kind)


def hold_gpu_memory(device: torch.device, gigabytes: float | None) -> None:
    """Lets this process take no more of the GPU's memory than so many times 10^9 bytes; more is out of memory to it.

    What CUDA itself takes, some hundred megabytes, comes on top. Nothing is done on a CPU.
    """
    if gigabytes is None or device.type != "cuda":
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, gigabytes * 1e9 / total), device)


def make_deterministic(threads: int) -> None:
    """The same bytes from the same order: sums in a fixed order, kernels without races."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=False)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # NaN in every new tensor
    torch.backends.cudnn.benchmark = False


def keep_freed_memory() -> None:
    """Lets glibc's malloc keep what a step's activations gave back, up to `KEPT_BYTES`.

    Otherwise every step returns it to the system and asks for it again, page by page. Other C libraries are left alone.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)


def software() -> str:
    return f"polyward {version('polyward')}, torch {torch.__version__}, monai {version('monai')}"


def device_name(device: torch.device, threads: int) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def _done(
    prepared: _Prepared,
    rows: Sequence[Metric],
    *,
    update: str | None = None,
    steps: int = 0,
    kept: Mapping[str, Kept] | None = None,
) -> Done:
    return Done(
        samples=prepared.counts.samples,
        counts=_train_counts(prepared.approval, prepared.counts),
        metrics=tuple(rows),
        update=update,
        seconds=0.0,
        steps=steps,
        kept=dict(kept or {}),
    )


def _train_counts(approval: Approval, counts: Census) -> dict[str, int]:
    return {task: counts.labels.get((task, "train"), 0) for task in approval.tasks}


@contextmanager
def _refusals() -> Iterator[None]:
    """The trainer's boundary: whatever goes wrong inside becomes a code, and a detail for the local log."""
    try:
        yield
    except Refused:
        raise
    except Problem as problem:
        raise Refused(Code.DATA, str(problem)) from problem
    except Exception as error:
        log.exception("the work failed")
        raise Refused(_code(error), f"{type(error).__name__}: {error}") from error


def _code(error: Exception) -> Code:
    text = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in text:
        return Code.OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return Code.DISK
    if isinstance(error, SafetensorError) and ("os error 28" in text or "os error 122" in text):
        return Code.DISK
    return Code.TRAINING_FAILED
