"""A small set of results whose figures can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

from polyward_deploy.arms import Arm
from polyward_deploy.results import Results, Row, SiteData, Turn
from polyward_shared.messages import Stage
from polyward_shared.study import Evaluation, Image, Study
from polyward_shared.tasks import Binary, Regression, Segmentation

HOSTILE = 'north <script>alert("x")</script> & $\\alpha$ --> "q"'
ALPHA = "alpha"


def sample(*, first: str = ALPHA, generated: bool = True) -> Results:
    """Two sites. At `first`: lesion 0.70 -> 0.80, size 10 -> 12 (worse); at beta: lesion without a local figure."""
    study = Study(
        id="sample",
        rounds=2,
        image=Image(size=(64, 64)),
        tasks={
            "lesion": Binary(kind="binary"),
            "size": Regression(kind="regression"),
            "outline": Segmentation(kind="segmentation"),
        },
    )
    figures = [
        *_arm("local", first, "lesion", "auroc", 0.70, 20),
        *_arm("federated", first, "lesion", "auroc", 0.80, 20),
        *_arm("fedavg", first, "lesion", "auroc", 0.75, 20),
        *_arm("local", first, "size", "mae", 10.0, 18),
        *_arm("federated", first, "size", "mae", 12.0, 18),
        *_arm("federated", "beta", "lesion", "auroc", 0.60, 9),
        *_arm("local", "beta", "outline", "dice", 0.5, 16),
        *_arm("federated", "beta", "outline", "dice", 0.625, 16),
    ]
    return Results(
        study=study,
        started="2026-03-01T10:20:30+00:00",
        seconds=75.2,
        machine="Linux x86_64, 2 cores",
        generated=generated,
        software={"torch": "2.13.0"},
        sites=(
            SiteData(name=first, images=80, labels={"lesion": 70, "size": 60}, note="sharp"),
            SiteData(name="beta", images=30, labels={"lesion": 25, "size": 20, "outline": 22}),
        ),
        turns=(
            Turn(arm="federated", round=0, digest="a" * 64, seconds=0.5),
            Turn(arm="federated", round=1, digest="b" * 64, seconds=3.0, bytes_down=2_000_000, bytes_up=1500),
            Turn(arm="local", round=1, site=first, digest="c" * 64, seconds=1.0),
            Turn(arm="local", round=1, site="beta", digest="d" * 64, seconds=0.25),
        ),
        rows=tuple(figures),
    )


def measured(results: Results) -> Results:
    """The same with 100 resamples and intervals of two federated figures: lesion at alpha, outline at beta."""
    ends = {(ALPHA, "lesion"): (0.625, 0.875), ("beta", "outline"): (0.5, 0.75)}
    rows = []
    for row in results.rows:
        whole = (row.arm, row.split, row.stage) == ("federated", "test", Stage.FINAL)
        low, high = ends.get((row.site, row.task), (None, None)) if whole else (None, None)
        rows.append(replace(row, low=low, high=high))
    study = results.study.model_copy(update={"evaluation": Evaluation(resamples=100)})
    return results.model_copy(update={"rows": tuple(rows), "study": study})


def _arm(arm: Arm, site: str, task: str, metric: str, end: float, count: int) -> list[Row]:
    """Two rounds on the way to the final figure; on the validation split everything is ten times as large."""
    rows = []
    for split, factor in (("val", 10.0), ("test", 1.0)):
        for number in (1, 2):
            for stage, share in ((Stage.RECEIVED, 0.25 * number), (Stage.TRAINED, 0.3 * number)):
                rows.append(Row(arm, number, site, task, split, stage, metric, factor * share * end, count))
        rows.append(Row(arm, 2, site, task, split, Stage.FINAL, metric, factor * end, count))
    return rows
