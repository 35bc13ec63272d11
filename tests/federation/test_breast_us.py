"""Real images: four scanners as four sites with different tasks learn for real, and no branch is ever at the hub."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from polyward_deploy.simulate import run_arm
from polyward_server.ledger import Ledger
from polyward_shared.chain import read_chain
from polyward_shared.messages import Stage
from polyward_shared.states import read_state
from polyward_shared.study import Study, read_study

EXAMPLE = Path(__file__).parents[2] / "deploy" / "examples" / "breast_us"
PACKS = Path(os.environ.get("POLYWARD_PACKS", Path(__file__).parents[3] / "shared" / "packs"))
needs_pack = pytest.mark.skipif(
    not (PACKS / "breast_us" / "manifest.csv").is_file(),
    reason="the pack breast_us is absent: set POLYWARD_PACKS to the folder that holds it",
)


@pytest.mark.whole
@pytest.mark.slow
@needs_pack
def test_every_task_is_learnt_and_branches_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYWARD_PACKS", str(PACKS))
    study = read_study(EXAMPLE / "study.toml").model_copy(update={"rounds": 8})
    study = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"every": 100})})
    [path] = run_arm(study, sorted((EXAMPLE / "sites").glob("*.toml")), "federated", tmp_path, workers=2)
    ledger = Ledger(path)
    figures = {
        (site, metric.task, metric.name): metric.value
        for _, site, metric in ledger.metrics(study.digest())
        if metric.split == "test" and metric.stage is Stage.FINAL
    }
    # 170 and 181 test cases: by chance an AUROC above 0.65 is more than three standard errors away
    assert figures["busbra_logiq5", "malignant", "auroc"] > 0.75
    assert figures["busbra_logiq7", "malignant", "auroc"] > 0.65
    assert figures["busbra_logiq5", "mask", "dice"] > 2 * everything_is_lesion("busbra_logiq5")
    assert figures["busbra_logiq5", "birads", "kappa"] > 0.2
    assert_nothing_but_the_encoder_at_the_hub(tmp_path, study)


def everything_is_lesion(site: str) -> float:
    """Mean Dice on the test images of a mask that covers all: 2 a / (1 + a) where the lesion has the share a."""
    rows = pd.read_csv(PACKS / "breast_us" / "manifest.csv")
    share = rows[(rows["site"] == site) & (rows["split"] == "test")]["lesion_area_frac"]
    return float((2 * share / (1 + share)).mean())


def assert_nothing_but_the_encoder_at_the_hub(folder: Path, study: Study) -> None:
    states = list((folder / "registry").glob("*.safetensors"))
    assert len(states) == study.rounds + 1
    sizes = set()
    for path in states:
        arrays = read_state(path)
        assert all(name.startswith("encoder.") for name in arrays)
        sizes.add(sum(int(np.prod(array.shape)) for array in arrays.values()))
    [values] = sizes
    for sent in (folder / "sites").glob("*/gate/sent.jsonl"):
        for line in read_chain(sent):  # what each site's own record says of the wire
            if line.get("kind") == "train.round":
                assert line["bytes"] == 4 * values
