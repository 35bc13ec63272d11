"""The study's settings in words: every one that changes what is trained, each sentence from the study alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from polyward_server.report.federated import federation
from polyward_server.report.sayings import Method, cited, listed, many
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS, Task
from polyward_shared.topologies import Graph
from polyward_shared.training import Training

BY = " \N{MULTIPLICATION SIGN} "
SCHEDULES = {
    "fedper": "encoder and branches together, {epochs} per round",
    "fedrep": "first the branches, {branch_epochs}, then the encoder, {epochs}, in each round",
    "fedbabu": "the encoder alone, {epochs} per round; branches move only after the last round",
}


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One task as a row of a table."""

    name: str
    kind: str
    answers: str
    metric: str
    inputs: str


def methods(study: Study) -> list[Method]:
    """From the image to the wire."""
    return [
        Method("Images", tuple(_images(study))),
        Method("Encoder", tuple(_encoder(study)), cited(study.encoder.kind)),
        _topology(study),
        Method("Balance of tasks", tuple(_balance(study)), cited(study.balancer.kind)),
        _training(study.training),
        _personal(study),
        *federation(study),
        Method(
            "Seeds",
            (
                f"Seed {study.seed}. The first encoder "
                + (
                    "is built from it at every site, and taken only where a quorum of sites builds the same bytes."
                    if study.encoder.start == "seed"
                    else f"is the registered one with the digest {study.encoder.start}."
                ),
                "Every branch starts from a seed made of the study's and the task's name.",
            ),
        ),
    ]


def task_lines(study: Study) -> list[TaskLine]:
    """What each task answers, and the metric that tables show first."""
    return [
        TaskLine(
            name,
            task.kind,
            _answers(task),
            METRICS[task.kind][0],
            ", ".join(task.side),
        )
        for name, task in study.tasks.items()
    ]


def _images(study: Study) -> Iterator[str]:
    image = study.image
    what, points = ("Images", "pixels") if len(image.size) == 2 else ("Volumes", "voxels")
    yield f"{what} of {BY.join(map(str, image.size))} {points}, {many(image.channels, 'channel')}."
    if isinstance(image.intensity, tuple):
        yield f"Intensities are cut to {image.intensity[0]:g} to {image.intensity[1]:g} and brought to 0 to 1."
    else:
        yield {
            "minmax": "Intensities are brought to 0 to 1 by each image's least and largest value.",
            "zscore": "Intensities are brought to mean 0 and standard deviation 1 in each image.",
        }[image.intensity]
    if image.spacing:
        yield f"Resampled to {BY.join(f'{side:g}' for side in image.spacing)} mm."
    if image.window:
        yield f"Trained on random windows of {BY.join(map(str, image.window))}; inference by sliding windows."


def _encoder(study: Study) -> Iterator[str]:
    settings = study.encoder.model_dump(mode="json", exclude={"kind", "start"})
    told = ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in settings.items())
    yield f"{study.encoder.kind} ({told})."
    if study.sharing.private_encoder:
        yield "A second encoder of the same kind stays at each site, beside the shared one."


def _topology(study: Study) -> Method:
    graph, branches = study.graph(study.topology), study.branches
    sentences = [f"Topology: {study.topology.kind}. Every branch receives the encoder's features.", *_edges(graph)]
    attention = "" if branches.attention == "none" else f", {branches.attention.upper()} attention"
    sentences.append(
        f"Decoders: {branches.decoder}; {branches.hidden} hidden features; dropout {branches.dropout:g}{attention}."
    )
    units = [edge.unit for edge in graph.interactions]
    return Method("Tasks' branches", tuple(sentences), cited(*units, branches.attention))


def _edges(graph: Graph) -> Iterator[str]:
    for edge in graph.cascades:
        extras = [
            *(["the target's gradient stops before it"] if edge.detach else []),
            *([f"{edge.teacher_forcing:.0%} of labelled cases on the true label"] if edge.teacher_forcing else []),
            *([f"{edge.passes} dropout passes for its uncertainty"] if edge.passes else []),
        ]
        how = f" ({'; '.join(extras)})" if extras else ""
        yield f"{edge.source} feeds its {edge.gives} into {edge.target}{how}."
    for group in graph.interactions:
        where = "at every stage of their decoders" if group.stages == "all" else "at the last stage"
        yield f"{listed(group.tasks)} exchange features {where} ({group.unit.replace('_', ' ')})."


def _balance(study: Study) -> Iterator[str]:
    if study.balancer.kind == "equal":
        yield "The losses of a site's tasks are added with equal weights."
    elif study.balancer.kind == "fixed":
        weights = ", ".join(f"{name} {task.weight:g}" for name, task in study.tasks.items())
        yield f"The losses of a site's tasks are added with fixed weights: {weights}."
    else:
        settings = study.balancer.model_dump(exclude={"kind"})
        told = ", ".join(f"{key} {_plain(value)}" for key, value in settings.items())
        yield f"The losses of a site's tasks are balanced by {study.balancer.kind} (of these, what it uses: {told})."


def _training(training: Training) -> Method:
    epochs, branches = many(training.epochs, "epoch"), many(training.branch_epochs, "epoch")
    order = SCHEDULES[training.schedule].format(epochs=epochs, branch_epochs=branches)
    rise = f", rising over {many(training.warmup_rounds, 'round')}" if training.warmup_rounds else ""
    sentences = [
        f"Schedule {training.schedule}: {order}.",
        f"Optimiser {training.optimiser}; learning rate {training.learning_rate:g}, of branches "
        f"{training.branch_learning_rate:g}, {training.rate_schedule} across the rounds{rise}; weight decay "
        f"{training.weight_decay:g}; gradients cut to a norm of {training.gradient_clip:g}.",
        f"Batches of {training.batch}"
        + (f", {training.accumulate} of them to a step" if training.accumulate > 1 else "")
        + (f"; {many(training.steps, 'step')} to an epoch." if training.steps else "; an epoch shows each image once."),
        f"Augmentation: {training.augmentation}.",
        f"After the last round: {many(training.final_epochs, 'epoch')} of "
        f"{'the branches' if training.final_parts == 'branches' else 'branches and encoder'} at each site. A site that "
        f"joins later trains its branches first for {many(training.join_epochs, 'epoch')}.",
    ]
    named: list[str] = [training.schedule]
    if training.proximal:
        sentences.append(f"What is shared is held to what was received (FedProx, mu = {training.proximal:g}).")
        named.append("fedprox")
    if training.contrast:
        sentences.append(
            f"Features are held near the received encoder's and away from the last own one's (MOON, weight "
            f"{training.contrast:g}, temperature {training.contrast_temperature:g})."
        )
        named.append("moon")
    if training.patience:
        sentences.append(f"A branch rests after {many(training.patience, 'measured round')} without a better loss.")
    return Method("Training at a site", tuple(sentences), cited(*named))


def _personal(study: Study) -> Method:
    personal, sentences = study.personal, []
    if personal.alone:
        sentences.append(
            "Each site also trained a model alone, by the same schedule, which never saw the federation's encoder."
        )
    if personal.ditto:
        sentences.append(
            f"Each site also trained a personal model drawn to the received one (Ditto, lambda = {personal.ditto:g})."
        )
    if sentences:
        sentences.append(
            "For each task a site keeps the model that did best on its validation cases, unless its policy names one."
        )
    return Method(
        "Models beside the federated one",
        tuple(sentences) or ("None.",),
        cited(*(["ditto"] if personal.ditto else [])),
    )


def _answers(task: Task) -> str:
    for key in ("classes", "points"):
        if names := getattr(task, key, ()):
            return ", ".join(names)
    if times := getattr(task, "times", ()):
        return f"times {', '.join(f'{each:g}' for each in times)}"
    return getattr(task, "unit", "")


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(each)}" for key, each in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
