"""The record of what left: every change to it shows, a crash within a line does not break it."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyward_shared.chain import GENESIS, Chain, read_chain
from polyward_shared.problems import Problem


def written(path: Path, count: int = 4) -> bytes:
    chain = Chain(path)
    for number in range(count):
        chain.append({"what": "report", "round": number, "value": 0.1 * number, "note": "ä"})
    return path.read_bytes()


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("chain") / "sent.jsonl"
    return path, written(path)


def test_lines_are_numbered_and_linked(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "sent.jsonl"
    written(path)
    entries = list(read_chain(path))
    assert [entry["seq"] for entry in entries] == [0, 1, 2, 3]
    assert [entry["prev"] for entry in entries] == [GENESIS, *(entry["hash"] for entry in entries[:-1])]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_reopening_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "sent.jsonl"
    written(path)
    Chain(path).append({"what": "more"})
    assert [entry["seq"] for entry in read_chain(path)] == [0, 1, 2, 3, 4]


def test_no_file_is_an_empty_record(tmp_path: Path) -> None:
    assert list(read_chain(tmp_path / "none")) == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_byte_is_detected(record: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = record
    place = data.draw(st.integers(0, len(whole) - 2))  # the last line's end is the next test's matter
    value = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
    with pytest.raises(Problem, match=r"chain is broken|not complete"):
        list(read_chain(path))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_byte_more_or_less_is_detected(record: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = record
    place = data.draw(st.integers(0, len(whole) - 2))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place] + whole[place + 1 :])
    else:
        path.write_bytes(whole[:place] + data.draw(st.binary(min_size=1, max_size=3)) + whole[place:])
    if path.read_bytes() != whole:  # one of two equal neighbours, taken out or doubled, may be either
        with pytest.raises(Problem, match=r"chain is broken|not complete"):
            list(read_chain(path))


@pytest.mark.parametrize("order", [[1, 2, 3], [0, 2, 3], [0, 1, 3], [1, 0, 2, 3], [0, 1, 3, 2], [0, 0, 1, 2, 3]])
def test_lines_that_are_gone_or_moved_are_detected(record: tuple[Path, bytes], order: list[int]) -> None:
    path, whole = record
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[number] for number in order))
    with pytest.raises(Problem, match="chain is broken"):
        list(read_chain(path))
    with pytest.raises(Problem, match="chain is broken"):
        Chain(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"round":1', b'"round":1.0'),
        (b'"round":1', b'"round": 1'),
        (b'"round":1', b'"round":9,"round":1'),
        (b"\\u00e4", "ä".encode()),
        (b"\n", b"\r\n"),
        (b"\n", b" \n"),
        (b"\n", b"\n\n"),
    ],
)
def test_the_same_content_in_another_spelling_is_detected(record: tuple[Path, bytes], old: bytes, new: bytes) -> None:
    path, whole = record
    assert old in whole
    path.write_bytes(whole.replace(old, new, 1))
    with pytest.raises(Problem, match=r"line [12]: the chain is broken"):
        list(read_chain(path))


@pytest.mark.parametrize("line", [b"[]\n", b"3\n", b"null\n", b"\xff\xff\n", b"{}\n", b"[" * 99_999 + b"\n", b"\0\n"])
def test_foreign_lines_are_a_problem_and_nothing_else(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "sent.jsonl"
    path.write_bytes(line)
    with pytest.raises(Problem, match="line 1"):
        list(read_chain(path))


def test_a_line_that_was_never_acknowledged_is_dropped_and_said(tmp_path: Path) -> None:
    path = tmp_path / "sent.jsonl"
    whole = written(path)
    path.write_bytes(whole + b'{"seq":4,"what":"rep')
    with pytest.raises(Problem, match=r"line 5: the last line is not complete"):
        list(read_chain(path))
    Chain(path).append({"what": "again"})
    assert path.read_bytes().startswith(whole)
    assert [entry["seq"] for entry in read_chain(path)] == [0, 1, 2, 3, 4]


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the file's size stands for the full disk: the kernel then writes a part of the line."""
    path = tmp_path / "sent.jsonl"
    before = len(written(path))
    code = (
        "import signal, sys; from pathlib import Path; from polyward_shared.chain import Chain\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "chain = Chain(Path(sys.argv[1]))\n"
        "try:\n    chain.append({'what': 'x' * 300})\nexcept OSError:\n    print('refused')\n"
        "chain.append({'what': 'y'})\n"
    )
    limit = before + 250
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.stdout == "refused\n"
    assert [entry["what"] for entry in read_chain(path)][-1] == "y"


def test_acknowledged_lines_survive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "sent.jsonl"
    code = (
        "import sys; from pathlib import Path; from polyward_shared.chain import Chain\n"
        "chain = Chain(Path(sys.argv[1]))\n"
        "while True:\n    print(chain.append({'what': 'z' * 500})['seq'], flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(20)][-1]
        process.kill()
        rest = process.stdout.read().splitlines()
    last = int(rest[-1]) if rest and rest[-1] else acknowledged
    Chain(path)
    assert len(list(read_chain(path))) >= last
    assert os.path.getsize(path) == sum(len(json.dumps(e, separators=(",", ":"))) + 1 for e in read_chain(path))
