"""The trainer's process: `python -m polyward_client.trainer SITE STATE`. Started by `polyward-node run`."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

from polyward_client.isolation.kernel import close_to_others
from polyward_client.logs import log_handlers
from polyward_client.port.serve import serve
from polyward_client.site import Site, read_site
from polyward_client.trainer.trainer import LocalTrainer
from polyward_shared.supervise import run_child

log = logging.getLogger("polyward.trainer")


def run_trainer(site: Site, stop: threading.Event) -> None:
    """Serves until `stop` is set, then ends with the current batch.

    Works in the port folder, for a Unix socket's path must be short. The gate's calls are cut first, so that it asks
    again when a trainer is back, and does not take the end for a refusal.
    """
    os.chdir(site.port)
    trainer = LocalTrainer(site)
    server = serve(trainer, site.socket)
    log.info("%s: ready", site.name)
    stop.wait()
    server.stop(grace=0).wait()
    trainer.close()
    log.info("%s: stopped", site.name)


if __name__ == "__main__":
    close_to_others()
    here = read_site(Path(sys.argv[1]), state=Path(sys.argv[2]))
    code = run_child("trainer", lambda stop: run_trainer(here, stop), handlers=log_handlers(here, "trainer"))
    logging.shutdown()
    os._exit(code)  # all is on the disk, and taking torch and CUDA apart can take longer than a supervisor waits
