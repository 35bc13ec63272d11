"""The same federation on Flower's own simulation engine (Ray), for simulations that outgrow one process.

Each site's gate and trainer live in a Ray actor. What an actor keeps between messages is a cache: everything that
counts is in the site's folder, so any actor can take over any site.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from polyward_client.gate.gate import Gate
from polyward_client.trainer.trainer import LocalTrainer
from polyward_deploy.arms import Arm
from polyward_deploy.simulate import TRIES, Watch, open_site, registry_with, simulated_site
from polyward_server.exchange import Presence
from polyward_server.federation import Federation
from polyward_server.ledger import Ledger
from polyward_server.rounds import run_study
from polyward_shared.problems import Problem
from polyward_shared.study import Study

WHO = "query.who"  # a simulated node does not say which site it plays; it is asked once
PATIENCE_SECONDS = 60.0


def run_on_ray(
    study: Study, sites: Sequence[Path], arm: Arm, folder: Path, watch: Watch, start: Path | None = None
) -> Path:
    """Runs the study with one simulated node for each site and returns the ledger's path.

    Raises `Problem` when Ray is not installed.
    """
    os.environ.update(
        {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    )
    try:
        import ray  # noqa: F401  Flower's engine needs it and says so less clearly
        from flwr.simulation import run_simulation
    except ImportError:
        raise Problem("--engine ray", "Ray is not installed", remedy="pip install 'polyward[ray]'") from None
    names = [open_site(path, study, folder).name for path in sites]
    states = [str(folder / "sites" / name) for name in names]
    ledger_path = folder / "ledger.db"
    trouble: list[BaseException] = []

    def serve(grid: Grid, _: Context) -> None:
        ledger = Ledger(ledger_path, watch=lambda event: watch.event(arm, event))
        try:
            nodes = _who_is_who(grid, names)
            here = {name: Presence(online=True, since=0.0) for name in names}
            ledger.queue(study)
            registry = registry_with(folder, start)
            run_study(study, Federation(grid, lambda: here, lambda: nodes, ledger, registry, tries=TRIES))
            ledger.set_state(study.digest(), "finished")
        except Exception as error:  # Flower would log it and call the run done; the caller must see it
            trouble.append(error)
        finally:
            ledger.close()

    server = ServerApp()
    server.main()(serve)
    run_simulation(
        server,
        _client_app([str(path.resolve()) for path in sites], states),
        num_supernodes=len(sites),
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    if trouble:
        raise trouble[0]
    return ledger_path


def _client_app(files: list[str], states: list[str]) -> ClientApp:
    app = ClientApp()

    def place(context: Context) -> int:
        return int(context.node_config["partition-id"])

    def answer(message: Message, context: Context) -> Message:
        index = place(context)
        return _gate(files[index], states[index]).answer(message)

    def who(message: Message, context: Context) -> Message:
        return Message(RecordDict({"who": ConfigRecord({"place": place(context)})}), reply_to=message)

    app.query("join")(answer)
    app.train("round")(answer)
    app.evaluate("finish")(answer)
    app.query("who")(who)
    return app


@cache
def _gate(file: str, state: str) -> Gate:
    """One gate for each site in each actor."""
    site = simulated_site(Path(file), Path(state))
    return Gate(site, LocalTrainer(site))


def _who_is_who(grid: Grid, names: Sequence[str]) -> dict[str, int]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(ids := list(grid.get_node_ids())) < len(names):
        if time.monotonic() > deadline:
            raise Problem("--engine ray", f"{len(ids)} of {len(names)} simulated nodes came up")
        time.sleep(0.1)
    asked = [Message(RecordDict(), dst_node_id=node, message_type=WHO) for node in ids]
    answers = grid.send_and_receive(asked, timeout=PATIENCE_SECONDS)
    nodes: dict[str, int] = {}
    for answer in answers:
        place = answer.content.config_records["who"]["place"]
        if isinstance(place, int):
            nodes[names[place]] = answer.metadata.src_node_id
    return nodes
