"""Stock FedAvg that prints when each round ended and how much memory this process has needed so far."""

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

MARK = "ROUND-ENDED"
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """What `flwr run` starts."""
    config = context.run_config
    federate(grid, rounds=int(config["rounds"]), sites=int(config["sites"]), values=int(config["values"]))


def federate(grid: Grid, *, rounds: int, sites: int, values: int) -> None:
    """FedAvg over one array, training only; the strategy calls `ended` before the first round and after each."""
    first = np.random.default_rng(0).standard_normal(values, np.float32)
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    strategy.start(grid, ArrayRecord({"encoder.w": Array(first)}), num_rounds=rounds, evaluate_fn=ended)


def ended(number: int, arrays: ArrayRecord) -> None:
    """One line for the bench."""
    print(f"{MARK} {json.dumps({'round': number, 'at': time.time(), 'peak_mb': _peak_mb()})}", flush=True)


def _peak_mb() -> float:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
