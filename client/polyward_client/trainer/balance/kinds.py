"""Every balancer by its name in the study. A new one is a rule and a line here (and a word in the study's list)."""

from __future__ import annotations

import math

from polyward_client.trainer.balance import rules, scalarising
from polyward_client.trainer.balance.gradients import db_mtl, from_torchjd, gradnorm, over_gram
from polyward_client.trainer.balance.step import Kind, learnt
from polyward_shared import gramian
from polyward_shared.problems import Problem

DWA_ROWS = {"sum": 0.0, "count": 0.0, "last": math.nan, "before_last": math.nan}

KINDS = {
    "equal": Kind(scalarising.equal),
    "fixed": Kind(scalarising.fixed),
    "uncertainty": Kind(scalarising.uncertainty, rows=learnt("log_variance", 0.0)),
    "dwa": Kind(scalarising.dwa, rows=DWA_ROWS, epoch=scalarising.dwa_epoch),
    "rlw": Kind(scalarising.rlw),
    "gls": Kind(scalarising.gls),
    "imtl_l": Kind(scalarising.imtl_l, rows=learnt("log_scale", 0.0)),
    "famo": Kind(scalarising.famo, rows=learnt("logits", 0.0) | {"before": math.nan}, after=scalarising.famo_after),
    "gradnorm": Kind(gradnorm, gram=True, rows=learnt("weight", 1.0)),
    "pcgrad": over_gram(lambda gram, step: gramian.pcgrad(gram, step.generator)),
    "mgda": over_gram(lambda gram, _: gramian.mgda(gram)),
    "imtl_g": over_gram(lambda gram, _: rules.imtl_g(gram)),
    "aligned_mtl": over_gram(lambda gram, _: rules.aligned_mtl(gram)),
    "cagrad": over_gram(lambda gram, step: gramian.cagrad(gram, step.config.c)),
    "db_mtl": Kind(db_mtl, jacobian=True, scales_branches=False, rows={"steps": 0.0}, wide=("averages",)),
    "upgrad": over_gram(lambda gram, _: rules.upgrad(gram)),
}


def kind_of(name: str) -> Kind:
    """The balancer of that name, or torchjd's after `torchjd:`; Problem if there is none."""
    origin, _, theirs = name.rpartition(":")
    if origin == "torchjd":
        return from_torchjd(theirs)
    if name not in KINDS:
        raise Problem("balancer.kind", f"{name!r}", expected=f"one of {', '.join(KINDS)}, or torchjd: and a name")
    return KINDS[name]
