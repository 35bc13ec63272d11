"""One federation simulated in one process tree: `python -m tests.bench.simulated ENGINE SITES VALUES ROUNDS FOLDER`.

A process of its own, so that its memory can be measured and Ray's daemons end with it. Prints seconds per round.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from polyward_client.gate.gate import Gate
from polyward_client.site import read_site
from polyward_deploy.local_grid import LocalGrid, gates_by_node
from polyward_server.exchange import Presence
from polyward_server.federation import Federation
from polyward_server.ledger import Ledger
from polyward_server.registry import Registry
from polyward_server.rounds import run_study
from tests.bench.null_trainer import NullTrainer
from tests.bench.ours import approve, between, commits, null_study
from tests.bench.plain_flower import client_app, server_app

WORKERS = 2
RESULT = "SECONDS"


def ours(sites: int, values: int, rounds: int, folder: Path) -> list[float]:
    """The real round loop and gates in this process, as `polyward-sim run` starts them, over null trainers."""
    study = null_study(sites=sites, rounds=rounds)
    gates = {}
    for number in range(sites):
        path = folder / f"site{number}.toml"
        path.write_text(f'name = "site{number}"\ntasks = ["any"]\n[data]\nroot = "."\n', encoding="utf-8")
        site = read_site(path)
        approve(site, study, values)
        gates[site.name] = Gate(site, NullTrainer(site))
    nodes, by_node = gates_by_node(gates)
    here = {name: Presence(online=True, since=0.0) for name in nodes}
    ledger, grid = Ledger(folder / "ledger.db"), LocalGrid(by_node, WORKERS)
    digest = ledger.queue(study)
    try:
        run_study(study, Federation(grid, lambda: here, lambda: nodes, ledger, Registry(folder / "registry")))
    finally:
        grid.close()
    return between(commits(ledger, digest))


def ray(sites: int, values: int, rounds: int) -> None:
    """Flower's own engine with the app of the other benches; it prints the ends of rounds itself."""
    from flwr.simulation import run_simulation

    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        server_app.federate(grid, rounds=rounds, sites=sites, values=values)

    run_simulation(
        server,
        client_app.app,
        num_supernodes=sites,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


def main() -> None:
    engine, folder = sys.argv[1], Path(sys.argv[5])
    sites, values, rounds = map(int, sys.argv[2:5])
    if engine == "ray":
        ray(sites, values, rounds)
        return
    logging.disable(logging.INFO)
    print(f"{RESULT} {json.dumps(ours(sites, values, rounds, folder))}")


if __name__ == "__main__":
    main()
