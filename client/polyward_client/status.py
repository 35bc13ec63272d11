"""What the node is doing, in one small file that `polyward-node status` shows."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from typing import Any

from polyward_client.port.interface import Progress
from polyward_client.site import Site
from polyward_shared.problems import Code

_lock = threading.Lock()  # the gate's threads write it


ADVICE: dict[str, str] = {
    Code.STUDY_NOT_APPROVED: "polyward-node studies lists it; show and approve decide on it",
    Code.WITHDRAWN: "this site has left that study; approve brings it back",
    Code.PAUSED: "polyward-node resume ends the pause",
    Code.POLICY: "polyward-node show says what the policy asks of that study; the log says more",
    Code.DATA: "polyward-node check with --study says what is wrong with the data",
    Code.DISK: "make room; polyward-node preflight shows how much there is",
    Code.OUT_OF_MEMORY: "the device is too small for this study; polyward-node check with --study tries a batch",
}


def write_status(
    site: Site,
    *,
    link: str | None = None,
    control: bool | None = None,
    progress: Progress | None = None,
    refused: str | None = None,
) -> None:
    """Updates the parts that are given; the file is always whole. One that cannot be written is done without."""
    with _lock, suppress(OSError):  # on a full disk the gate goes on: it still has to refuse orders
        status = read_status(site)
        if link is not None:
            status["link"] = str(link)
        if control is not None:
            status["control"] = control
        if refused is not None:
            status["refused"] = refused
        if progress is not None:
            status["progress"] = progress.model_dump()
            status["progress_at"] = time.time()
        status["at"] = time.time()
        site.gate.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = site.status.with_suffix(".draft")
        draft.write_text(json.dumps(status), encoding="utf-8")
        os.replace(draft, site.status)


def read_status(site: Site) -> dict[str, Any]:
    """The last status, or nothing."""
    try:
        status = json.loads(site.status.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}
