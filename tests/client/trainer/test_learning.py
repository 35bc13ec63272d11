"""What a hospital sees of its training: the course of losses, and tasks that pull apart."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from polyward_client.trainer.journal import Epoch, write_epoch
from polyward_client.trainer.learning import conflicts, course, print_learning
from tests.support.images import write_site


def epoch(round: int, cosine: float | None, **losses: float) -> Epoch:
    cosines = {} if cosine is None else {"mask grade": cosine}
    return Epoch(round, "together", 1, losses, {}, dict.fromkeys(losses, 0.5), dict.fromkeys(losses, 2.0), cosines)


@pytest.mark.parametrize(
    ("values", "bars"),
    [([1.0], "▁"), ([8, 7, 6, 5, 4, 3, 2, 1], "█▇▆▅▄▃▂▁"), ([0.0, 1.0], "▁█"), ([2.0, 2.0], "▁▁")],
)
def test_the_course_of_a_loss_by_hand(values: list[float], bars: str) -> None:
    assert course(values) == bars


def test_a_long_course_is_a_row_of_means() -> None:
    assert course([5.0] * 20 + [1.0] * 20) == "█" * 10 + "▁" * 10


def test_tasks_pull_apart_by_the_last_round_alone() -> None:
    assert list(conflicts([epoch(1, -0.9, mask=1.0), epoch(2, 0.3, mask=1.0)])) == []
    [sentence] = conflicts([epoch(1, 0.9), epoch(2, -0.2), epoch(2, -0.4), epoch(2, None)])
    assert sentence == "mask and grade pull apart: mean cosine -0.30 of their gradients in round 2"


def test_what_was_trained_is_shown(tmp_path: Path) -> None:
    site = write_site(tmp_path, tasks=["mask"])
    text = StringIO()
    console = Console(file=text, width=100)
    assert not print_learning(site, console)
    path = site.journal / f"{'ab' * 32}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert not print_learning(site, console), "an empty journal shows nothing"
    for number, loss in enumerate((3.0, 2.0, 1.0), start=1):
        write_epoch(path, epoch(number, None, mask=loss))
    assert print_learning(site, console)
    assert "abababab  3 epochs, the last in round 3" in text.getvalue()
    assert " ".join(text.getvalue().splitlines()[-2].split()) == "mask █▅▁ 3.000 1.000 0.5 2"
