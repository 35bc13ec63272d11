"""Time to an event, such as death or relapse; of some cases only that it had not happened yet is known (censored)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from polyward_client.trainer.cells import Cell
from polyward_client.trainer.tasks.classes import YES_NO
from polyward_client.trainer.tasks.kind import Figure, TaskKind
from polyward_shared.study import Image
from polyward_shared.tasks import Survival

SEEN = ("censored", "event")
ROWS = 1024  # of the table of pairs that is in memory at once


class SurvivalKind(TaskKind):
    """Hazard: a logit for each interval (0, t1], (t1, t2], ... Cox: one log risk.

    A Cox risk set is the batch, for images of other sites cannot be asked and those of other batches are not in memory:
    small batches with few events teach little, and its loss is comparable only between batches of one size.
    """

    def __init__(self, name: str, task: Survival) -> None:
        super().__init__(name, task)
        self.event, self.times, self.cox = task.event, task.times, task.loss == "cox"
        self.channels = 1 if self.cox else len(task.times)
        self.may_be_void = self.cox

    def columns(self, column: str) -> tuple[str, ...]:
        return column, self.event or f"{column}_event"

    def label(self, cells: Sequence[Cell | None]) -> tuple[float, int] | None:
        """The time from 0 on, and 1 if it ended with the event."""
        time, event = cells
        if time is None or event is None:
            for alone in (time, event):
                if alone is not None:
                    raise alone.error("time and event both stated, or neither", f"{alone.text!r} alone")
            return None
        if time.number() < 0:
            raise time.error("a time of 0 or more")
        return time.number(), event.choice(YES_NO)

    def blank(self, image: Image) -> NDArray[np.float32]:
        return np.full(2, np.nan, np.float32)  # NaN keeps it out of the risk sets

    def classes(self) -> tuple[str, ...]:
        return SEEN

    def class_of(self, label: tuple[float, int]) -> str:
        return SEEN[label[1]]

    def losses(self, output: Tensor, target: Tensor, head: nn.Module) -> Tensor:
        return cox(output[:, 0], target) if self.cox else hazard(output, target, self.times)

    def informs(self, target: Tensor) -> Tensor:
        """Cox: all cases or none, for one event with another case at risk makes terms of the whole batch."""
        every = super().informs(target)
        return every & ((target[:, 1] > 0) & (at_risk(target).sum(1) > 1)).any() if self.cox else every

    @property
    def evidence_width(self) -> int:
        return self.channels

    @property
    def unsure(self) -> float:
        return 0.0 if self.cox else 0.5

    def evidence(self, output: Tensor) -> Tensor:
        return output if self.cox else survival(output)

    def figures(self, answers: Tensor, truths: Tensor, head: nn.Module) -> Iterator[Figure]:
        answers, truths = answers.double(), truths.double()
        risk = answers[:, 0] if self.cox else -expected_time(survival(answers), self.times)
        yield "c_index", c_index(risk, truths), len(truths)
        if not self.cox:
            yield "brier", integrated_brier(survival(answers), truths, self.times), len(truths)


def hazard(output: Tensor, target: Tensor, times: Sequence[float]) -> Tensor:
    """Negative log-likelihood of discrete-time logistic hazards [batch] (Gensheimer, Narasimhan, arXiv 1805.00917).

    Logits [batch, intervals], target [batch, 2] of time and event. An event in interval j stands for survival of those
    before and death in j. A censored case survived the intervals of which it lived at least half, as in the paper.
    After the last interval nothing is asked. A target of NaN has loss 0.
    """
    ends = torch.tensor(times, dtype=output.dtype, device=output.device)
    starts = F.pad(ends[:-1], (1, 0))
    time, event = target[:, :1], target[:, 1:] > 0
    survived = torch.where(event, time > ends, time >= (starts + ends) / 2)
    # Time 0 belongs to the first interval.
    died = event & (time <= ends) & ((time > starts) | (starts == 0))
    return (F.softplus(output) * survived + F.softplus(-output) * died).sum(1)


def cox(risk: Tensor, target: Tensor) -> Tensor:
    """Terms [batch] of Cox's negative log partial likelihood with Breslow's ties (the loss of arXiv 1606.00931).

    Log risks [batch], target [batch, 2] of time and event. The terms are scaled so that their mean over the labelled
    cases is the mean over events. Censored cases and targets of NaN have 0, as all cases of a batch without events.
    """
    time, event = target[:, 0], target[:, 1] > 0
    terms = torch.where(at_risk(target), risk, -math.inf).logsumexp(1) - risk
    scale = (~time.isnan()).sum() / event.sum().clamp(min=1)
    return torch.where(event, terms, 0) * scale


def at_risk(target: Tensor) -> Tensor:
    """Who still lived when a case's time ended [case, others]: itself, and for a target of NaN nobody else."""
    time = target[:, 0]
    return (time >= time[:, None]) | torch.eye(len(time), dtype=torch.bool, device=time.device)


def survival(output: Tensor) -> Tensor:
    """Logits of hazards [batch, intervals] -> P(T > end of the interval) [batch, intervals].

    The sums of logs are a product of matrices, for a GPU's cumulative product has no deterministic gradient.
    """
    earlier = torch.ones(output.shape[1], output.shape[1], dtype=output.dtype, device=output.device).triu()
    return (-F.softplus(output) @ earlier).exp()


def expected_time(chances: Tensor, times: Sequence[float]) -> Tensor:
    """Mean time until the event, cut at the last of `times` [batch]: the area below the curve, by trapezoids."""
    curve = F.pad(chances, (1, 0), value=1.0)
    return torch.trapezoid(curve, torch.tensor([0.0, *times], dtype=chances.dtype), dim=1)


def c_index(risk: Tensor, truths: Tensor) -> float:
    """Harrell's concordance (JAMA 1982, 247:2543): of the pairs whose order is known, the share that risk orders so.

    Risks [n], truths [n, 2] of time and event. Known is the order of an event and a later time, or a censoring at the
    same time. Equal risks count half. NaN where no pair is known.
    """
    time, event = truths[:, 0], truths[:, 1] > 0
    known, right = 0, 0.0
    for rows in torch.split(event.nonzero()[:, 0], ROWS):
        first = time[rows, None]
        pairs = (first < time) | ((first == time) & ~event)
        higher, equal = risk[rows, None] > risk, risk[rows, None] == risk
        known += int(pairs.sum())
        right += int((pairs & higher).sum()) + int((pairs & equal).sum()) / 2
    return right / known if known else math.nan


def integrated_brier(chances: Tensor, truths: Tensor, times: Sequence[float]) -> float:
    """Brier score with inverse-probability-of-censoring weights (Graf et al., Stat Med 1999, 18:2529), over time.

    P(T > t) [n, times], truths [n, 2] of time and event. By trapezoids from the first to the last of `times`, divided
    by that span; times that no case outlived are left out. NaN where none is left.
    """
    time, event = truths[:, 0], truths[:, 1] > 0
    at = torch.tensor(times, dtype=torch.float32).to(truths.dtype)  # rounded as the cases' times are
    at = at[at < time.max()]
    if not len(at):
        return math.nan
    gone = event[:, None] & (time[:, None] <= at)
    alive = time[:, None] > at
    chances = chances[:, : len(at)]
    dead_weight = gone / uncensored(truths, time, before=True)[:, None]
    scores = (chances.square() * dead_weight + (1 - chances).square() * alive / uncensored(truths, at)).mean(0)
    if len(at) == 1:
        return float(scores[0])
    return float(torch.trapezoid(scores, at) / (at[-1] - at[0]))


def uncensored(truths: Tensor, at: Tensor, *, before: bool = False) -> Tensor:
    """Kaplan-Meier estimate of P(censoring > t), or >= t with `before`, for each t of `at`.

    Of an event and a censoring at the same time the event came first.
    """
    time, event = truths[:, 0], truths[:, 1] > 0
    moments, ends = torch.unique(time[~event], return_counts=True)
    exposed = (time[:, None] > moments).sum(0) + ends
    stay = 1 - ends / exposed
    passed = moments < at[:, None] if before else moments <= at[:, None]
    return torch.where(passed, stay, 1).prod(1)
