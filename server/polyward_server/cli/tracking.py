"""`polyward-hub`: figures for tools that draw them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track as bar

from polyward_server.cli.app import TRACKING, HubArgument, app
from polyward_server.cli.naming import NamedStudy, named
from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import ENDED
from polyward_server.tracking.figures import Figure, Sink, figures
from polyward_shared.commands import talk
from polyward_shared.problems import Problem
from polyward_shared.study import Study

AT_ONCE = 500  # figures between two movements of the bar
FOLLOW_SECONDS = 2.0


@app.command(rich_help_panel=TRACKING)
def track(
    hub: HubArgument,
    study: NamedStudy,
    tensorboard: Annotated[Path | None, typer.Option(help="a folder for TensorBoard", metavar="DIR")] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="an MLflow server or database, as its tracking URI", metavar="URI")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="go on until the study ends; Ctrl-C stops it")] = False,
) -> None:
    """Write every figure of a study for TensorBoard or MLflow. Asked again, it adds what is new."""
    if tensorboard is None and mlflow is None:
        raise Problem("track", "nothing says where to", remedy="add --tensorboard DIR, --mlflow URI, or both")
    ledger = Ledger(Hub(hub).ledger)
    digest = named(ledger, study)
    wanted = ledger.study(digest)
    with closing(_Sinks(wanted, tensorboard, mlflow)) as sinks:
        while True:
            ended = ledger.study_state(digest)[0] in ENDED
            count = sinks.take(list(figures(ledger, wanted)))
            if count or not follow:
                talk.print(f"{count} new figures of {wanted.id}", highlight=False)
            if ended or not follow:
                return
            time.sleep(FOLLOW_SECONDS)


class _Sinks:
    """Those that were asked for."""

    def __init__(self, study: Study, tensorboard: Path | None, mlflow: str | None) -> None:
        self._sinks: list[Sink] = []
        name = f"{study.id}-{study.digest()[:8]}"
        try:
            if tensorboard is not None:
                from polyward_server.tracking.tensorboard import TensorBoard

                self._sinks.append(TensorBoard(tensorboard / name))
            if mlflow is not None:
                from polyward_server.tracking.mlflow import MLflow

                self._sinks.append(MLflow(mlflow, name))
        except ModuleNotFoundError as missing:
            raise Problem(
                "track", f"{missing.name} is not installed", remedy="pip install 'polyward[tracking]'"
            ) from None

    def take(self, told: Sequence[Figure]) -> int:
        """How many were new to one of them."""
        most = 0
        for sink in self._sinks:
            new = sink.missing(told)
            parts = [new[start : start + AT_ONCE] for start in range(0, len(new), AT_ONCE)]
            for part in bar(parts, "writing", console=talk, transient=True) if len(parts) > 1 else parts:
                sink.add(part)
            most = max(most, len(new))
        return most

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
