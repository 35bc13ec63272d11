"""The trainer's process: `python -m polyward_client.trainer SITE STATE`. Started by `polyward-node run`."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

from polyward_client.port.serve import serve
from polyward_client.site import Site, read_site
from polyward_client.trainer.trainer import LocalTrainer
from polyward_shared.supervise import run_child

log = logging.getLogger("polyward.trainer")


def run_trainer(site: Site, stop: threading.Event) -> None:
    """Serves until `stop` is set. Works in the port folder, for a Unix socket's path must be short."""
    os.chdir(site.port)
    server = serve(LocalTrainer(site), site.socket)
    log.info("%s: ready", site.name)
    stop.wait()
    server.stop(grace=0)


if __name__ == "__main__":
    here = read_site(Path(sys.argv[1]), state=Path(sys.argv[2]))
    sys.exit(run_child("trainer", lambda stop: run_trainer(here, stop)))
