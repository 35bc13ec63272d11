"""What every command line does with a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyward_shared.commands import new_app, run_app
from polyward_shared.problems import Code, Problem, Refused


def ends(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    app = new_app("help")

    @app.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["polyward"])
    with pytest.raises(SystemExit) as ended:
        run_app(app)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_problem_is_told_word_for_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Brackets stay, and a long path is not broken over lines."""
    problem = Problem(f"{tmp_path}/{'x' * 100}/a.toml", "size: found [32, 30]; [bold]", remedy="mend it [/]")
    assert ends(problem, monkeypatch) == 2
    told = capsys.readouterr()
    assert told.err == f"error {problem}\n"
    assert told.out == ""


def test_a_refusal_and_an_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(Refused(Code.STATE_UNKNOWN, "not here"), monkeypatch) == 2
    assert "state-unknown: not here" in capsys.readouterr().err
    assert ends(KeyboardInterrupt(), monkeypatch) == 130


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app("help")

    @app.command()
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sys.argv", ["polyward"])
    with pytest.raises(ZeroDivisionError):
        run_app(app)
