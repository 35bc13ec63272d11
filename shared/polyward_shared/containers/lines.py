"""What containers have written, of one or of several at once."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from polyward_shared.containers.engine import asking

LAST_LINES = 10


def tail(container: Any, lines: int = LAST_LINES) -> list[str]:
    """The last lines of one container."""
    with asking(f"the container {container.name}"):
        text: bytes = container.logs(tail=lines)
    return text.decode(errors="replace").splitlines()


def logs(containers: Sequence[Any], *, follow: bool = False, lines: int = 100) -> Iterator[tuple[str, str]]:
    """Lines with the names of their containers: of each the last ones, in the order of their times, then what comes.

    With `follow` this goes on until all of the containers end.
    """
    read = [_stamped(container.name, container.logs(tail=lines, timestamps=True)) for container in containers]
    for _, name, line in sorted(line for of_one in read for line in of_one):
        yield name, line
    if not follow:
        return
    since = {
        container.name: of_one[-1][0] if of_one else "" for container, of_one in zip(containers, read, strict=True)
    }
    coming: queue.Queue[tuple[str, str] | None] = queue.Queue()
    for container in containers:
        listener = threading.Thread(target=_listen, args=(container, since[container.name], coming), daemon=True)
        listener.start()
    ended = 0
    while ended < len(containers):
        said = coming.get()
        if said is None:
            ended += 1
        else:
            yield said


def instant(text: str) -> datetime:
    """A time as the engine writes it: to the nanosecond, with Z or an offset."""
    return datetime.fromisoformat(re.sub(r"\.(\d{1,6})\d*", lambda found: f".{found[1]:0<6}", text))


def _stamped(name: str, text: bytes) -> list[tuple[str, str, str]]:
    """Time, name and text of each line that the engine gives."""
    lines = [line.partition(" ") for line in text.decode(errors="replace").splitlines()]
    return [(stamp, name, line) for stamp, _, line in lines]


def _listen(container: Any, since: str, coming: queue.Queue[tuple[str, str] | None]) -> None:
    """Passes on every line later than `since`, the engine's time of the last one that was seen."""
    try:
        rest = b""
        for piece in container.logs(
            stream=True, follow=True, timestamps=True, since=int(instant(since).timestamp()) if since else None
        ):
            *whole, rest = (rest + piece).split(b"\n")
            for stamp, name, line in _stamped(container.name, b"\n".join(whole)):
                if stamp > since:
                    coming.put((name, line))
    finally:
        coming.put(None)
