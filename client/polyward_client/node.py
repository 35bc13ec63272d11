"""The node: gate and trainer as two processes under one supervisor."""

from __future__ import annotations

import json
import logging
import os
import subprocess

from polyward_client.logs import log_handlers
from polyward_client.parts import PARTS, Start, child_of, make_folders, start_of, trial_of, users_of
from polyward_client.site import Site
from polyward_shared.pki import read_key
from polyward_shared.problems import Problem
from polyward_shared.supervise import only_one, stop_on_signals, supervise

BATCH_SECONDS = 15.0  # for the trainer to end its batch when told to stop; `stop` and systemd wait a little longer

log = logging.getLogger("polyward.node")

WITHOUT_ISOLATION = (
    "%s: ISOLATION IS OFF ([isolation] require = false): the trainer has the network, and the gate could open images"
)


def run_node(site: Site) -> None:
    """Runs until SIGTERM or SIGINT. Raises `Problem` before anything starts if something is missing."""
    if site.file.hub is None:
        raise Problem(str(site.path), "hub: is missing", remedy='add [hub] with address = "host:port"')
    if not site.ca.is_file():
        raise Problem(str(site.ca), "there is no such file", remedy="copy the hub's ca.pem here")
    read_key(site.key)
    stop = stop_on_signals()
    users = users_of(site)
    make_folders(site)
    only_one(site.lock, site.name)
    logging.basicConfig(level=logging.INFO, handlers=log_handlers(site, "node"), force=True)
    starts = [start_of(site, part, users.get(part)) for part in PARTS]
    if site.file.isolation.require:
        try_isolation(site, starts)
    else:
        log.warning(WITHOUT_ISOLATION, site.name)
    supervise([child_of(site, start) for start in starts], stop, patience=BATCH_SECONDS)


def try_isolation(site: Site, starts: list[Start]) -> None:
    """Isolates a process as each part would be, and lets it end. Raises the `Problem` that a part would meet."""
    trials = []
    for start in starts:
        who = start.user
        trials.append(
            subprocess.Popen(
                trial_of(site, start.part),
                cwd=site.port,
                env={**os.environ, **start.environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                user=who.id if who else None,
                group=who.group if who else None,
                extra_groups=who.groups if who else None,
            )
        )
    ends = [(*trial.communicate(), trial.returncode) for trial in trials]
    for start, (found, talk, code) in zip(starts, ends, strict=True):
        if code == 2 and found:
            where, what, expected, remedy = json.loads(found)
            raise Problem(where, what, expected=expected, remedy=remedy)
        if code != 0:
            raise Problem(
                f"the {start.part}",
                f"cannot be started: {talk.strip().splitlines()[-1] if talk.strip() else f'exit code {code}'}",
                remedy="let its user read the program and the site's file, and enter the site's folder",
            )
