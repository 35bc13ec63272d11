"""No patient in a log: not by a path, not in an exception, not by way of a library."""

from __future__ import annotations

import logging
import stat
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyward_client.logs import Discreet
from polyward_client.site import Site, read_site
from polyward_shared.problems import Code, Problem, Refused

NAME = "Doe^John"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / f"{NAME} 1.png").write_bytes(b"no image")
    path = tmp_path / "site.toml"
    path.write_text('name = "a"\n[data]\nroot = "images"\n[limits]\nlog_megabytes = 1\nlog_files = 2\n')
    return read_site(path)


@pytest.fixture
def lines(site: Site) -> Iterator[tuple[logging.Logger, StringIO]]:
    """A logger of ours, and what a trainer would write of it."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Discreet(site.root, "trainer", foreign=False))
    logger = logging.getLogger("polyward.test")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


def test_of_an_exception_the_kind_and_the_places_are_told(lines: tuple[logging.Logger, StringIO], site: Site) -> None:
    logger, stream = lines
    try:
        try:
            raise ValueError(f"patient {NAME}")
        except ValueError as error:
            raise RuntimeError(f"row 3: {NAME}") from error
    except RuntimeError:
        logger.exception("the work failed")
    text = stream.getvalue()
    assert NAME not in text
    assert "the work failed" in text
    assert "builtins.ValueError" in text
    assert "builtins.RuntimeError" in text
    assert f"{__file__}:" in text


def test_of_an_argument_that_is_an_exception_what_is_ours_is_told(
    lines: tuple[logging.Logger, StringIO],
) -> None:
    logger, stream = lines
    logger.warning("refused: %s", Refused(Code.DATA, f"row 3: {NAME}"))
    logger.warning("failed: %s", KeyError(NAME))
    logger.warning("disk: %s", OSError(28, "No space left on device", f"/x/{NAME}"))
    logger.warning("%s", Problem("device.kind", "'cuda', but torch sees no GPU here"))
    logger.warning(ValueError(NAME))
    text = stream.getvalue()
    assert NAME not in text
    for told in ("refused: data", "failed: KeyError", "disk: OSError: No space left on device", "sees no GPU"):
        assert told in text


def test_a_library_in_the_trainer_says_only_that_it_spoke(lines: tuple[logging.Logger, StringIO], site: Site) -> None:
    _, stream = lines
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Discreet(site.root, "trainer", foreign=False))
    handler.emit(logging.makeLogRecord({"name": "pydicom", "msg": "value %s is odd", "args": (NAME,)}))
    handler.emit(logging.makeLogRecord({"name": "polywardish", "msg": NAME}))
    assert NAME not in stream.getvalue()
    assert "a message of pydicom, which is not kept" in stream.getvalue()


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40))
def test_whatever_a_path_below_the_root_is_called_it_is_not_told(name: str) -> None:
    formatter = Discreet(Path("/srv/images"), "gate", foreign=True)
    record = logging.makeLogRecord({"name": "httpx", "msg": "before /srv/images/%s-Doe", "args": (name,)})
    assert formatter.format(record).endswith("before [a path of the data]")


def test_log_files_are_private_and_turn_over(site: Site) -> None:
    site.logs.mkdir(parents=True)
    code = (
        "import logging, sys; from pathlib import Path; from polyward_client.site import read_site\n"
        "from polyward_client.logs import log_handlers\n"
        "logging.basicConfig(level=20, handlers=log_handlers(read_site(Path(sys.argv[1])), 'gate'))\n"
        "for number in range(4000): logging.getLogger('polyward').info('%d %s', number, 'x' * 990)\n"
        f"raise ValueError({NAME!r})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(site.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    files = sorted(site.logs.iterdir())
    assert [path.name for path in files] == ["gate.log", "gate.log.1", "gate.log.2"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert all(path.stat().st_size <= 1_000_000 for path in files)
    last = files[0].read_text()
    assert "a mistake in the program" in last
    assert "builtins.ValueError" in last
    assert NAME not in last + done.stderr


def test_a_patient_in_a_file_name_and_in_an_exception_of_a_real_reader(site: Site) -> None:
    """A trainer's whole logging around a reader that fails over a real file, in a thread, with a warning before."""
    code = (
        "import logging, sys, threading, warnings; from pathlib import Path; from PIL import Image\n"
        "from polyward_client.site import read_site; from polyward_client.logs import log_handlers\n"
        "site = read_site(Path(sys.argv[1]))\n"
        "logging.basicConfig(level=20, handlers=log_handlers(site, 'trainer'))\n"
        "file = next(site.root.iterdir())\n"
        "def work():\n"
        "    warnings.warn(f'{file.name} is odd')\n"
        "    logging.getLogger('PIL').warning('cannot read %s', file.name)\n"
        "    logging.getLogger('polyward').info('at %s', file)\n"
        "    Image.open(file)\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(site.path)], capture_output=True, text=True, check=True)
    written = (site.logs / "trainer.log").read_text()
    assert "UnidentifiedImageError" in written
    assert "at [a path of the data]" in written
    assert NAME not in written + done.stderr
