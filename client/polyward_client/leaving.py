"""What a study trains at a site and what leaves it, in plain words, for the person who decides."""

from __future__ import annotations

from collections.abc import Iterator

from polyward_client.approvals import Approval
from polyward_shared.codec import BYTES_PER_VALUE
from polyward_shared.messages import Kind, stages_of
from polyward_shared.schema import BRANCHES, ENCODER, PRECISION, STATISTICS
from polyward_shared.study import Study
from polyward_shared.tasks import METRICS

BRANCH_OWNERS = {
    "site": "the hub mixes it with the branches of other tasks",  # only under the rule fedhca2 does it leave then
    "taskset": "shared with the sites that train the very same tasks",
    "task": "shared with all sites that train this task",
}
STATES_OF_A_ROUND = 3  # a hub that lost sites may ask a round anew, from another state; the gate refuses more


def training(approval: Approval) -> Iterator[str]:
    """What will be trained here, a line for each sort of thing."""
    study = approval.study
    for task in approval.tasks:
        yield f"{task}: {study.tasks[task].kind}"
    others = [task for task in study.tasks if task not in approval.tasks]
    if others:
        yield f"not here: {', '.join(others)}"
    form = " x ".join(map(str, study.image.size))
    yield f"on images of {form} with {study.image.channels} channel{'s' if study.image.channels > 1 else ''}"
    times = study.training
    amount = f"{times.steps} steps" if times.steps else "every training image once"
    yield f"schedule {times.schedule}, {times.epochs} epochs a round, each {amount}; {times.final_epochs} at the end"


def leaving(approval: Approval, *, every_array: bool = False) -> Iterator[str]:
    """What leaves the site under this approval, in plain words, a line for each sort of thing, or for each array."""
    study, schema = approval.study, approval.schema
    width = BYTES_PER_VALUE[study.wire.codec]
    each = schema.size * width
    yield f"in each of {study.rounds} rounds, {each / 1e6:.2f} MB:"
    for name in schema.groups:
        part = schema.group(name)
        arrays = f"{len(part.arrays)} array{'s' if len(part.arrays) > 1 else ''}"
        yield f"  {name} ({arrays}, {part.size * width / 1e6:.2f} MB): {_meaning(name, study)}"
        if every_array:
            for spec in part.arrays:
                yield f"    {spec.name}  {' x '.join(map(str, spec.shape)) or 'one value'}"
    yield "  the number of training images, of labels of each task, of optimiser steps, and the seconds they took"
    yield (
        f"in all rounds {study.rounds * each / 1e6:.2f} MB; a round may be asked again, from at most "
        f"{STATES_OF_A_ROUND} different states"
    )
    yield from _figures(approval)
    yield "when it joins: names and shapes of these arrays, the software's versions, and the arrays' first values,"
    yield "  which come from the study's seed and not from images"


def _figures(approval: Approval) -> Iterator[str]:
    study = approval.study
    often = "every round" if study.evaluation.every == 1 else f"every {study.evaluation.every} rounds and the last"
    yield f"figures of each task, each with its number of cases, in {often} and at the end:"
    for task in approval.tasks:
        yield f"  {task}: {', '.join(METRICS[study.tasks[task].kind])} on {' and '.join(study.evaluation.splits)}"
    if study.evaluation.resamples:
        yield "  and the ends of their 95 % intervals over patients"
    stages = stages_of(Kind.TRAIN, study.personal) | stages_of(Kind.FINISH, study.personal)
    yield f"  at most {len(stages)} times each: of the model as received, as trained here, and after the final tuning"
    if study.personal.alone:
        yield "  of the model that this site trains alone; its arrays stay here"
    if study.personal.ditto:
        yield "  of the model that this site trains near the received one (Ditto); its arrays stay here"
    if approval.models:
        yield f"at the end, for each task, one word for the model that this site keeps: {' or '.join(approval.models)}"


def _meaning(group: str, study: Study) -> str:
    if group.startswith(f"{BRANCHES}."):
        return f"the branch of {group.removeprefix(f'{BRANCHES}.')}, {BRANCH_OWNERS[study.sharing.branches]}"
    return {
        ENCODER: "the weights of the shared encoder",
        PRECISION: "how sure this site is of each of those weights, by squared gradients; tells more than weights",
        STATISTICS: "means and squares of features over this site's images, which its batch norms have seen",
    }[group]
