"""The trainer's process: `python -m polyward_client.trainer SITE STATE`. Started by `polyward-node run`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from polyward_client.port.serve import serve
from polyward_client.site import SOCKET, read_site
from polyward_client.trainer.trainer import LocalTrainer
from polyward_shared.problems import Problem
from polyward_shared.supervise import end_with_parent, stop_on_signals

log = logging.getLogger("polyward.trainer")


def main() -> int:
    """Serves until SIGTERM. Works in the state folder, for a Unix socket's path must be short."""
    end_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s trainer %(levelname)s %(message)s")
    try:
        site = read_site(Path(sys.argv[1]), state=Path(sys.argv[2]))
        os.chdir(site.state)
        stop = stop_on_signals()
        server = serve(LocalTrainer(site), site.state / SOCKET)
        log.info("%s: ready", site.name)
        stop.wait()
        server.stop(grace=0)
    except Problem as problem:
        log.error("%s", problem)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
