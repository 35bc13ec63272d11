"""The node: gate and trainer as two processes under one supervisor."""

from __future__ import annotations

from polyward_client.site import Site
from polyward_shared.pki import read_key
from polyward_shared.problems import Problem
from polyward_shared.supervise import Child, module, only_one, stop_on_signals, supervise

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run_node(site: Site) -> None:
    """Runs until SIGTERM or SIGINT. Raises `Problem` before anything starts if something is missing."""
    if site.file.hub is None:
        raise Problem(str(site.path), "hub: is missing", remedy='add [hub] with address = "host:port"')
    if not site.ca.is_file():
        raise Problem(str(site.ca), "there is no such file", remedy="copy the hub's ca.pem here")
    read_key(site.key)
    stop = stop_on_signals()
    site.port.mkdir(parents=True, exist_ok=True, mode=0o700)
    only_one(site.lock, site.name)
    threads = {name: str(site.file.device.threads) for name in ONE_THREAD}
    trainer = Child("trainer", _command("trainer", site), site.port, threads)
    gate = Child("gate", _command("gate", site), site.port, ONE_THREAD)
    supervise([trainer, gate], stop)


def _command(part: str, site: Site) -> list[str]:
    return [*module(f"polyward_client.{part}", str(site.path)), str(site.state)]
