"""What people get wrong, through the real command lines: exit code 2, one clear error, no traceback.

Each case is the change of one thing in a sound federation, and what the error must name: the file, the key or row and
column, what was found, and what was expected or is to be done.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import polyward_client.cli
import polyward_deploy.cli
import polyward_server.cli
from polyward_client.site import read_site
from polyward_server.ledger import Ledger
from polyward_server.roster import Roster
from polyward_shared import pki
from polyward_shared.chain import Chain
from tests.support.images import write_site

MAINS = {
    "polyward-node": polyward_client.cli.main,
    "polyward-hub": polyward_server.cli.main,
    "polyward-sim": polyward_deploy.cli.main,
}
STUDY = """\
id = "toy"
rounds = 2

[image]
size = [16, 16]
intensity = [0.0, 255.0]

[encoder]
filters = 4
blocks = [1, 1]
groups = 2

[training]
batch = 4

[tasks.bright]
kind = "binary"

[tasks.shape]
kind = "multiclass"
classes = ["disc", "bar", "cross"]

[tasks.mask]
kind = "segmentation"
classes = ["lesion"]
"""
CHECK = "polyward-node check site.toml --study study.toml"
Change = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound study and a sound site: `study.toml`, `site.toml`, and the images in `north.images`."""
    write_site(tmp_path, tasks=("bright", "shape", "mask"), toml="[policy]\nminimum_count = 5\n")
    (tmp_path / "north.toml").rename(tmp_path / "site.toml")
    (tmp_path / "study.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command in this process. What is no `Problem` comes out as an exception, as a traceback."""
    name, *arguments = command.split()
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        MAINS[name]()
    return int(ended.value.code or 0)


def study(old: str, new: str) -> Change:
    return text("study.toml", old, new)


def site(old: str, new: str) -> Change:
    return text("site.toml", old, new)


def text(name: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return change


def cell(row: int, column: str, value: str) -> Change:
    """Changes a cell of the manifest; `row` as a spreadsheet counts."""

    def change(folder: Path) -> None:
        path = folder / "north.images" / "manifest.csv"
        lines = [line.split(",") for line in path.read_text().splitlines()]
        lines[row - 1][lines[0].index(column)] = value
        path.write_text("\n".join(",".join(line) for line in lines))

    return change


def content(name: str, data: bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return change


def gone(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def nothing(folder: Path) -> None:
    pass


def small_mask(folder: Path) -> None:
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(folder / "north.images" / "3.mask.png")


def with_hub(change: Change = nothing, *, registered: bool = True) -> Change:
    def made(folder: Path) -> None:
        polyward_server.hub.init(folder / "hub", name="hub", host="127.0.0.1", port=8443)
        if registered:
            ledger = Ledger(folder / "hub" / "ledger.db")
            Roster(ledger).register("north", pki.public_pem(pki.new_key()).decode())
            ledger.close()
        change(folder)

    return made


def with_hub_address(change: Change) -> Change:
    def made(folder: Path) -> None:
        site("[data]", '[hub]\naddress = "127.0.0.1:1"\n[data]')(folder)
        change(folder)

    return made


def with_key(mode: int) -> Change:
    def change(folder: Path) -> None:
        (folder / "ca.pem").touch()
        key = read_site(folder / "site.toml").key
        pki.write_secret(key, pki.key_to_pem(pki.new_key()))
        key.chmod(mode)

    return change


def changed_record(folder: Path) -> None:
    path = read_site(folder / "site.toml").sent
    chain = Chain(path)
    for number in range(3):
        chain.append({"at": "now", "what": "report", "kind": "train.round", "round": number})
    path.write_text(path.read_text().replace('"round":1', '"round":7'))


def second_site(folder: Path) -> None:
    (folder / "sites").mkdir()
    for name in ("a", "b"):
        (folder / "sites" / f"{name}.toml").write_text((folder / "site.toml").read_text())


CASES: list[tuple[str, Change, str, list[str]]] = [
    # the study
    ("study is not there", gone("study.toml"), CHECK, ["study.toml: there is no such file", "check the path"]),
    ("study is a folder", nothing, "polyward-node check site.toml --study .", [".: is a folder", "a TOML file"]),
    ("study in latin-1", content("study.toml", 'id = "ä"'.encode("latin-1")), CHECK, ["is not UTF-8", "save it"]),
    (
        "study with a broken line",
        study("rounds = 2", "rounds = = 2"),
        CHECK,
        ["is not valid TOML", "line 2, column 10"],
    ),
    ("a key twice", study("rounds = 2", "rounds = 2\nrounds = 3"), CHECK, ["study.toml", "not valid TOML", "line 3"]),
    (
        "a key misspelt",
        study("batch = 4", "bach = 4"),
        CHECK,
        ["training.bach: this key is unknown", "batch, accumulate"],
    ),
    ("a table misspelt", study("[training]", "[trainig]"), CHECK, ["study.toml: trainig: this key is unknown"]),
    ("a key of a task misspelt", study('"binary"', '"binary"\ncolum = "x"'), CHECK, ["tasks.bright.colum: this key"]),
    ("no rounds", study("rounds = 2", ""), CHECK, ["study.toml: rounds: is missing"]),
    ("rounds is 0", study("rounds = 2", "rounds = 0"), CHECK, ["rounds: found 0; expected greater than 0"]),
    ("rounds in quotes", study("rounds = 2", 'rounds = "2"'), CHECK, ["rounds: found '2'; expected a valid integer"]),
    ("rounds is true", study("rounds = 2", "rounds = true"), CHECK, ["rounds: found True; expected a valid integer"]),
    ("a side does not halve", study("[16, 16]", "[16, 17]"), CHECK, ["image.size: found [16, 17]", "a multiple of 2"]),
    (
        "bounds reversed",
        study("[0.0, 255.0]", "[255.0, 0.0]"),
        CHECK,
        ["image: intensity: found [255.0, 0.0]", "first"],
    ),
    ("an unknown kind", study('"binary"', '"bool"'), CHECK, ["tasks.bright.kind: found 'bool'; expected 'binary'"]),
    ("no kind", study('kind = "binary"', ""), CHECK, ["tasks.bright.kind: is missing"]),
    (
        "one class",
        study('"disc", "bar", "cross"', '"disc"'),
        CHECK,
        ["tasks.shape.classes: found ['disc']", "at least 2"],
    ),
    ("a class twice", study('"bar", "cross"', '"bar", "bar"'), CHECK, ["tasks.shape.classes: found", "that differ"]),
    ("a reserved name", study("tasks.bright", "tasks.train"), CHECK, ["tasks.train: found 'train'", "reserved"]),
    ("a capital", study("tasks.bright", "tasks.Bright"), CHECK, ["tasks.Bright: found 'Bright'", "small letters"]),
    ("no rate", study("batch = 4", "learning_rate = 0"), CHECK, ["training.learning_rate: found 0", "greater than 0"]),
    ("a rate of nan", study("batch = 4", "learning_rate = nan"), CHECK, ["learning_rate: found nan", "finite"]),
    (
        "a quorum of no task",
        study("[tasks.bright]", "[participation]\ntask_quorum = { x = 1 }\n[tasks.bright]"),
        CHECK,
        ["participation.task_quorum: found 'x'; expected a task of the study"],
    ),
    (
        "a start that is none",
        study("filters = 4", 'filters = 4\nstart = "best"'),
        CHECK,
        ["encoder.start: found 'best'"],
    ),
    ("groups that do not divide", study("groups = 2", "groups = 3"), CHECK, ["encoder.groups: found 3", "(4)"]),
    ("too many mistakes", study("[encoder]", "[encoder]\na=1\nb=1\nc=1\nd=1\ne=1\nf=1"), CHECK, ["and 1 more"]),
    # the site
    ("site is not there", gone("site.toml"), CHECK, ["site.toml: there is no such file"]),
    ("a variable is not set", site('root = "', 'root = "$NO_SUCH/'), CHECK, ["site.toml: data.root: found '$NO_SUCH/"]),
    ("a task twice", site('"bright", ', '"bright", "bright", '), CHECK, ["tasks: found ['bright', 'bright'", "once"]),
    (
        "a task of no study",
        site('"bright", ', '"dark", '),
        CHECK,
        ["site.toml: tasks: found dark", "bright, shape, mask"],
    ),
    ("a key of a site misspelt", site("minimum_count", "min_count"), CHECK, ["policy.min_count: this key is unknown"]),
    ("a count of 0", site("minimum_count = 5", "minimum_count = 0"), CHECK, ["policy.minimum_count: found 0"]),
    ("a device that is none", site("[data]", '[device]\nkind = "gpu"\n[data]'), CHECK, ["device.kind: found 'gpu'"]),
    ("a column of no task", site("[data]", '[data]\ncolumns = { brigt = "x" }'), CHECK, ["data.columns: found brigt"]),
    (
        "no images",
        site('north.images"', 'south.images"'),
        CHECK,
        ["south.images/manifest.csv: there is no", "data.root"],
    ),
    ("rows that are none", site("[data]", '[data]\nrows = { split = "x" }'), CHECK, ["no usable rows", "data.rows"]),
    # the manifest
    (
        "a column is not there",
        text("north.images/manifest.csv", "shape", "form"),
        CHECK,
        ["manifest.csv", "also shape"],
    ),
    ("semicolons", text("north.images/manifest.csv", ",", ";"), CHECK, ["manifest.csv", "must be a comma"]),
    ("empty", content("north.images/manifest.csv", b""), CHECK, ["manifest.csv", "cannot be read as CSV"]),
    ("in latin-1", content("north.images/manifest.csv", b"path,\xe4"), CHECK, ["is not UTF-8 text", "UTF-8 encoding"]),
    ("an unknown split", cell(4, "split", "training"), CHECK, ["row 4, column split: found 'training'", "train, val"]),
    (
        "two splits",
        cell(5, "patient_id", "p0"),
        CHECK,
        ["row 5, column split: found 'val'", "in row 2", "to one split"],
    ),
    ("a class of no study", cell(3, "shape", "ring"), CHECK, ["row 3, column shape: found 'ring'", "disc, bar, cross"]),
    ("no such image", cell(6, "path", "x.png"), CHECK, ["row 6, column path: found 'x.png', which does not exist"]),
    ("an image outside", cell(6, "path", "../site.toml"), CHECK, ["row 6, column path", "stays below data.root"]),
    ("an image twice", cell(7, "path", "0.png"), CHECK, ["row 7, column path: found the same file as in row 2"]),
    ("no image", content("north.images/1.png", b"text"), CHECK, ["row 3, column path: found '1.png', which"]),
    ("a small mask", small_mask, CHECK, ["row 5, column mask: found '3.mask.png' of size 8 x 16", "16 x 16"]),
    ("no patient", cell(2, "patient_id", ""), CHECK, ["row 2, column patient_id: found nothing", "fill it in"]),
    # the node
    ("no hub", nothing, "polyward-node run site.toml", ["site.toml: hub: is missing", "address"]),
    ("no port", with_hub_address(site(":1", "")), "polyward-node run site.toml", ["hub.address: found '127.0.0.1'"]),
    ("no authority", with_hub_address(nothing), "polyward-node run site.toml", ["ca.pem: there is no such file"]),
    (
        "no key",
        with_hub_address(content("ca.pem", b"")),
        "polyward-node run site.toml",
        ["node.key: there is no key", "polyward-node enrol"],
    ),
    ("an open key", with_hub_address(with_key(0o644)), "polyward-node run site.toml", ["other users", "chmod 600"]),
    ("a changed record", changed_record, "polyward-node sent site.toml", ["sent.jsonl, line 2: the chain is broken"]),
    ("not running", nothing, "polyward-node stop site.toml", ["north: is not running"]),
    (
        "a study that fits no site",
        site('"bright", ', '"dark", '),
        "polyward-node approve site.toml study.toml",
        ["dark"],
    ),
    # the hub
    ("no hub's folder", nothing, "polyward-hub run . study.toml", ["is not a hub's folder", "polyward-hub init"]),
    (
        "nobody registered",
        with_hub(registered=False),
        "polyward-hub run hub study.toml",
        ["no site has joined", "invite"],
    ),
    ("a hub twice", with_hub(), "polyward-hub init hub", ["holds a hub already", "choose another folder"]),
    (
        "a host with scheme",
        nothing,
        "polyward-hub init new --host https://x",
        ["host: found 'https://x'", "a host name"],
    ),
    ("a port too high", nothing, "polyward-hub init new --port 70000", ["port: found 70000", "65535"]),
    ("a name of two", with_hub(), "polyward-hub invite hub a/b", ["site: found 'a/b'", "letters, digits"]),
    ("an output that is there", with_hub(), "polyward-hub invite hub a --output study.toml", ["exists already"]),
    ("nobody to approve", with_hub(), "polyward-hub approve hub a", ["no request that waits", "polyward-hub sites"]),
    ("nobody to reject", with_hub(), "polyward-hub reject hub a", ["no request that waits"]),
    ("nobody to revoke", with_hub(), "polyward-hub revoke hub a", ["is no site of this hub"]),
    ("no invitation's file", nothing, "polyward-node enrol none", ["cannot be read", "arguments are seen"]),
    ("a text as invitation", nothing, "polyward-node enrol study.toml", ["study.toml: begins with", "polyward1."]),
    (
        "an invitation cut off",
        content("cut", b"polyward1.eyJzaXRlIjoibm9ydG"),
        "polyward-node enrol cut",
        ["cut: is damaged", "polyward-hub invite"],
    ),
    (
        "an encoder that is none",
        with_hub(),
        "polyward-hub import hub study.toml",
        ["study.toml: is damaged", "safetensors"],
    ),
    ("a text as ledger", with_hub(content("hub/ledger.db", b"x" * 999)), "polyward-hub status hub", ["as a ledger"]),
    ("a hub's key misspelt", with_hub(text("hub/hub.toml", "host", "hst")), "polyward-hub status hub", ["hub.toml: h"]),
    # the simulation
    ("no sites", nothing, "polyward-sim run study.toml", ["sites: holds no site files", "--site"]),
    ("a name twice", second_site, "polyward-sim run study.toml", ["b.toml: name: 'north' is also the name of"]),
]


@pytest.mark.parametrize(("name", "change", "command", "named"), CASES, ids=[case[0] for case in CASES])
def test_a_mistake_is_one_clear_error(
    folder: Path,
    name: str,
    change: Change,
    command: str,
    named: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(folder)
    assert run(command, monkeypatch) == 2
    told = capsys.readouterr()
    error = told.out + told.err
    for part in named:
        assert part in error
    assert "\\[" not in error
    assert "Traceback" not in error
    assert error.count("what to do") == 1 or "expected" in error


def test_the_sound_federation_is_sound(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it, every case above could pass for another reason."""
    assert run(CHECK, monkeypatch) == 0
    assert "every row is used" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site("[data]", '[device]\nkind = "cuda"\n[data]')(folder)
    assert run(CHECK, monkeypatch) == 2
    assert "device.kind" in "".join(capsys.readouterr())


@pytest.mark.parametrize("module", ["polyward_client", "polyward_server", "polyward_deploy"])
def test_as_a_process_of_its_own(folder: Path, module: str) -> None:
    """The same through the interpreter: the exit code reaches the shell, and the error is on stderr alone."""
    arguments = {
        "polyward_client": ["check", "none.toml"],
        "polyward_server": ["status", "none"],
        "polyward_deploy": ["run", "none.toml"],
    }
    command = [sys.executable, "-m", module, *arguments[module]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "40"})
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error none")
    assert "Traceback" not in done.stderr
