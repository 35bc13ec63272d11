"""A folder appears whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_client.trainer.outputs import whole_folder
from polyward_shared.problems import Problem


def test_it_appears_at_the_end_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out"
    with whole_folder(path) as draft:
        (draft / "a").write_text("1")
        assert not path.exists()
    assert (path / "a").read_text() == "1"
    assert path.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["out"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with whole_folder(tmp_path / "out") as draft:
            (draft / "a").write_text("1")
            raise KeyError("a bug")

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("1")
    with pytest.raises(Problem, match="exists already"), whole_folder(tmp_path / "full"):
        pass
    (tmp_path / "empty").mkdir()
    with whole_folder(tmp_path / "empty") as draft:
        (draft / "a").write_text("1")
    assert (tmp_path / "empty" / "a").exists()
