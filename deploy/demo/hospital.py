"""What a hospital of compose.demo.yaml does before its node runs: `hospital.py prepare NAME`, `hospital.py approve`.

The hospitals differ in their tasks, in the device that the images are drawn for, and in how ill their patients are.
Each step is done once; repeating it changes nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from polyward_client.decisions import last_about, read_decisions
from polyward_client.site import read_site
from polyward_client.trainer.vault import new_vault_key
from polyward_deploy.hospitals import HOSPITALS, Hospital, write_data
from polyward_shared.study import read_study
from polyward_shared.whole import write_whole

SITE, STUDY = Path("/site/site.toml"), Path("/study.toml")
STATE, DATA = Path("/site/state"), Path("/site/data")
KEY = STATE / "trainer" / "vault.key"
VOLUMES = (Path("/site"), DATA, STATE, *(STATE / part for part in ("gate", "trainer", "port", "logs")))
LIKE = {"north": 0, "south": 1, "east": 4}  # of the five hospitals of `polyward-sim demo`: tasks, device, patients
HUB = "gateway:443"

SITE_FILE = """\
# GENERATED images: drawn by a computer program. They stand for no patients and are no medical evidence.
name = {name}
tasks = {tasks}
state = "state"

[data]
root = "data"

[device]
kind = "cpu"

[vault]
key = "state/trainer/vault.key"

[hub]
address = "{hub}"
control = "{hub}"
"""


def prepare(name: str) -> None:
    """The site's file, its folders, the vault's key, and generated images with a manifest."""
    if os.geteuid() == 0:
        _become_owner()
    (STATE / "approved").mkdir(exist_ok=True, mode=0o700)
    lock = STATE / "run.lock"
    if not lock.is_symlink():
        lock.symlink_to("gate/run.lock")  # what people decide is read-only to the gate; its lock is its own
    hospital = replace(HOSPITALS[LIKE[name]], name=name)
    if not (DATA / "manifest.csv").exists():
        count, size = int(os.environ["IMAGES"]), read_study(STUDY).image.size[0]
        write_data(DATA, hospital, count, size=size, seed=0)
        print(f"{name}: {count} images, GENERATED; they stand for no patients")
    if not KEY.exists():
        new_vault_key(KEY)
    if not SITE.exists():
        write_whole(SITE, _site_text(hospital).encode(), mode=0o644)


def approve() -> None:
    """As a person would who has read the study; what was decided on it before, such as to leave it, stands."""
    site, digest = read_site(SITE), read_study(STUDY).digest()
    if last_about(read_decisions(site.approved), digest) is None:
        subprocess.run(["polyward-node", "approve", "--yes", SITE, STUDY], check=True)


def _become_owner() -> None:
    """A new volume is root's: it is handed over, and this goes on as its new owner."""
    user, group = (int(number) for number in os.environ["OWNER"].split(":"))
    for folder in VOLUMES:
        os.chown(folder, user, group)
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)


def _site_text(hospital: Hospital) -> str:
    return SITE_FILE.format(name=json.dumps(hospital.name), tasks=json.dumps(list(hospital.tasks)), hub=HUB)


def main(arguments: Sequence[str]) -> None:
    match arguments:
        case ["prepare", name]:
            prepare(name)
        case ["approve"]:
            approve()
        case _:
            sys.exit("expected: prepare NAME, or approve")


if __name__ == "__main__":
    main(sys.argv[1:])
