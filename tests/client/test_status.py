"""The node's small status file: always whole, each part on its own."""

from __future__ import annotations

import threading
from pathlib import Path

from polyward_client.port.interface import Progress
from polyward_client.status import ADVICE, read_status, write_status
from polyward_shared.problems import Code
from tests.support.toy_trainer import toy_site, toy_study


def test_parts_are_updated_on_their_own(tmp_path: Path) -> None:
    site = toy_site(tmp_path, "a", toy_study(), ("mask",))
    assert read_status(site) == {}
    write_status(site, link="online", refused=Code.DATA)
    write_status(site, progress=Progress(phase="training", epoch=1, epochs=2))
    status = read_status(site)
    assert status["link"] == "online"
    assert (status["progress"]["phase"], status["progress"]["epoch"]) == ("training", 1)
    assert status["at"] > 0
    assert "polyward-node check" in ADVICE[status["refused"]]
    write_status(site, refused="")
    assert not read_status(site)["refused"]


def test_threads_do_not_lose_one_anothers_parts(tmp_path: Path) -> None:
    site = toy_site(tmp_path, "a", toy_study(), ("mask",))
    progress = Progress(phase="training")
    writers = [threading.Thread(target=write_status, args=(site,), kwargs={"link": str(n)}) for n in range(8)]
    writers += [threading.Thread(target=write_status, args=(site,), kwargs={"progress": progress}) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {"link", "progress", "progress_at", "at"} == read_status(site).keys()


def test_a_foreign_file_counts_as_none(tmp_path: Path) -> None:
    site = toy_site(tmp_path, "a", toy_study(), ("mask",))
    for content in (b"", b"[]", b"{", b"\xff"):
        site.status.parent.mkdir(exist_ok=True)
        site.status.write_bytes(content)
        assert read_status(site) == {}


def test_a_status_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    site = toy_site(tmp_path, "a", toy_study(), ("mask",))
    write_status(site, link="online")
    site.status.with_suffix(".draft").mkdir()
    write_status(site, link="offline")
    assert read_status(site)["link"] == "online"
