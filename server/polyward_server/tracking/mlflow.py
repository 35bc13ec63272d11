"""An MLflow server, or its database: an experiment for the study, in it a run for the hub and one for each site.

What is there already is asked of it, so nothing needs to be remembered elsewhere. MLflow's own reports of its use to
its makers are switched off before it is loaded. Names and passwords come from its environment, never from the address.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # of the usual 7, which last for minutes

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from polyward_server.tracking.figures import Figure
from polyward_shared.problems import Problem

AT_ONCE = 1000  # figures in one request, MLflow's own bound
RUN = "polyward.run"  # the tag by which a run is found again


class MLflow:
    """One study's experiment."""

    def __init__(self, address: str, experiment: str) -> None:
        if urlsplit(address).password:
            raise Problem(
                "--mlflow",
                "holds a password, which everybody on this machine could read",
                remedy="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead",
            )
        self._address = address
        with self._answering():
            self._client = MlflowClient(tracking_uri=address)
            known = self._client.get_experiment_by_name(experiment)
            self._experiment = known.experiment_id if known else self._client.create_experiment(experiment)
            self._runs: dict[str, str] = {}
            self._known: dict[str, set[tuple[str, int]]] = {}
            for run in self._client.search_runs([self._experiment], max_results=1000):
                if name := run.data.tags.get(RUN):
                    self._runs[name] = run.info.run_id
                    self._known[name] = {
                        (key, each.step)
                        for key in run.data.metrics
                        for each in self._client.get_metric_history(run.info.run_id, key)
                    }

    def missing(self, told: Iterable[Figure]) -> list[Figure]:
        return [each for each in told if (each.name, each.step) not in self._known.get(each.run, set())]

    def add(self, new: Sequence[Figure]) -> None:
        by_run: dict[str, list[Figure]] = {}
        for each in new:
            by_run.setdefault(each.run, []).append(each)
        for run, rows in by_run.items():
            for start in range(0, len(rows), AT_ONCE):
                part = rows[start : start + AT_ONCE]
                values = [Metric(each.name, each.value, int(each.at * 1000), each.step) for each in part]
                with self._answering():
                    self._client.log_batch(self._run(run), metrics=values)
                self._known.setdefault(run, set()).update((each.name, each.step) for each in part)

    def close(self) -> None:
        """Each request is whole by itself."""

    def _run(self, name: str) -> str:
        if name not in self._runs:
            tags = {RUN: name, MLFLOW_RUN_NAME: name}
            self._runs[name] = self._client.create_run(self._experiment, tags=tags).info.run_id
        return self._runs[name]

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            raise Problem(
                self._address,
                f"MLflow does not take the figures ({error.error_code})",
                remedy="check the address and MLFLOW_TRACKING_USERNAME; then ask again, nothing is written twice",
            ) from None
