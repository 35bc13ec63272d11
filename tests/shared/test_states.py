"""State files: whole or absent, and a foreign file is a Problem, whatever it holds."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from polyward_shared.problems import Problem
from polyward_shared.states import read_stamp, read_state, write_state

ARRAYS = {
    "encoder.w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "encoder.scale": np.array(3.5, np.float32),
    "branches.mask.b": np.zeros((0, 2), np.float32),
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.safetensors"
    write_state(path, ARRAYS, {"study": "s", "round": "1"})
    found = read_state(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable
    assert read_stamp(path) == {"study": "s", "round": "1"}
    assert load_file(path).keys() == ARRAYS.keys()
    assert [entry.name for entry in path.parent.iterdir()] == ["a.safetensors"]


def test_a_state_that_is_read_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_state(path, ARRAYS, {})
    found = read_state(path)
    write_state(path, {"encoder.w": np.full((2, 3), 9, np.float32)}, {})
    path.unlink()
    np.testing.assert_array_equal(found["encoder.w"], ARRAYS["encoder.w"])


def test_a_failed_write_leaves_the_old_state_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_state(path, ARRAYS, {})
    with pytest.raises(TypeError):
        write_state(path, {"encoder.w": np.array([object()])}, {})
    assert read_state(path).keys() == ARRAYS.keys()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    """A limit on the file's size stands for the full disk."""
    path = tmp_path / "a.safetensors"
    code = (
        "import signal, sys, numpy as np; from pathlib import Path; from polyward_shared.states import write_state\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try:\n    write_state(Path(sys.argv[1]), {'encoder.w': np.zeros(10_000, np.float32)}, {})\n"
        "except OSError as error:\n    print(error.errno, error.filename)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    assert done.stdout == f"{errno.EFBIG} {path}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("existing", [True, False])
def test_a_kill_within_a_write_leaves_the_old_or_nothing(tmp_path: Path, existing: bool) -> None:
    """A child writes one value over and over; whatever moment it dies at, the file holds one whole state or none."""
    path = tmp_path / "a.safetensors"
    code = (
        "import sys, numpy as np; from pathlib import Path; from polyward_shared.states import write_state\n"
        "print('ready', flush=True)\n"
        "for turn in range(1, 100000):\n"
        "    write_state(Path(sys.argv[1]), {'encoder.w': np.full(200_000, turn, np.float32)}, {'turn': str(turn)})\n"
    )
    for wait in (0.002, 0.02):
        path.unlink(missing_ok=True)
        if existing:
            write_state(path, {"encoder.w": np.full(200_000, -1, np.float32)}, {"turn": "-1"})
        with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(wait)
            process.kill()
        assert path.exists() or not existing
        if path.exists():
            values = read_state(path)["encoder.w"]
            assert (values == float(read_stamp(path)["turn"])).all()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("states") / "a.safetensors"
    write_state(path, ARRAYS, {"round": "1"})
    return path, path.read_bytes()


def read_or_problem(path: Path) -> None:
    try:
        read_stamp(path)
        read_state(path)
    except Problem as problem:
        assert problem.where == str(path)  # noqa: PT017  either outcome is right


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_truncated_file_is_a_problem(sample: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = sample
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(Problem, match=r"damaged|does not fit"):
        read_state(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_file_is_read_or_a_problem_never_an_exception(
    sample: tuple[Path, bytes], data: st.DataObject
) -> None:
    path, whole = sample
    place = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:place] + data.draw(st.binary(min_size=1, max_size=4)) + whole[place + 1 :])
    read_or_problem(path)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        [],
        {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32"},
        {"dtype": "F32", "shape": [1]},
        {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": "F32", "shape": [1], "data_offsets": 0},
        {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0.0, 4.0]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 2**66]},
        {"dtype": "F32", "shape": [0], "data_offsets": [2**70, 2**70]},
        {"dtype": "F32", "shape": [1] * 65, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [2**62] * 100_000, "data_offsets": [0, 4]},
    ],
)
def test_a_hostile_header_is_a_problem(tmp_path: Path, entry: object) -> None:
    header = json.dumps({"encoder.w": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(Problem, match=r"encoder\.w (is not float32|does not fit)"):
        read_state(path)


@pytest.mark.parametrize("header", [b"[]", b"3", b"{", b"\xff", b"[" * 99_999, b""])
def test_a_header_that_is_none_is_a_problem(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(Problem, match="damaged"):
        read_state(path)


def test_another_dtype_and_no_file_are_problems(tmp_path: Path) -> None:
    save_file({"encoder.w": np.zeros(2, np.float64)}, tmp_path / "a.safetensors")
    with pytest.raises(Problem, match=r"encoder\.w is not float32"):
        read_state(tmp_path / "a.safetensors")
    with pytest.raises(Problem, match="there is no such file"):
        read_stamp(tmp_path / "none")
    with pytest.raises(Problem, match="cannot be read"):
        read_state(tmp_path)


def test_in_a_folder_of_two_users_the_group_may_read(tmp_path: Path) -> None:
    """Such a folder hands its group down; anywhere else a state is its writer's alone."""
    for mode, expected in ((0o2770, 0o660), (0o2750, 0o640), (0o770, 0o600), (0o755, 0o600)):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        folder.chmod(mode)
        write_state(folder / "a.safetensors", {"w": np.zeros(1, np.float32)}, {})
        assert (folder / "a.safetensors").stat().st_mode & 0o777 == expected
