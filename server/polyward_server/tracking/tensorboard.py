"""TensorBoard's event files: a folder for the hub and one for each site, in a folder of the study's.

What is in the files already is read from them, so nothing needs to be remembered elsewhere: a run that was cut off
leaves at most a torn last record, after which nothing was written, and what it held is written again to a new file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from polyward_server.tracking.figures import Figure

PREFIX = "events"
LENGTH = struct.Struct("<QI")  # of a record, and that number's own checksum; after the record comes another


class TensorBoard:
    """A folder of runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, set[tuple[str, int]]] = {}
        self._writers: dict[str, EventsWriter] = {}

    def missing(self, told: Iterable[Figure]) -> list[Figure]:
        return [each for each in told if (each.name, each.step) not in self._in(each.run)]

    def add(self, new: Sequence[Figure]) -> None:
        for each in new:
            value = Summary(value=[Summary.Value(tag=each.name, simple_value=each.value)])
            self._writer(each.run).write_event(Event(wall_time=each.at, step=each.step, summary=value))
        for run in {each.run for each in new}:
            self._writers[run].flush()
        for each in new:
            self._in(each.run).add((each.name, each.step))

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _in(self, run: str) -> set[tuple[str, int]]:
        if run not in self._known:
            events = (event for file in _files(self._folder / run) for event in read_events(file))
            self._known[run] = {(value.tag, event.step) for event in events for value in event.summary.value}
        return self._known[run]

    def _writer(self, run: str) -> EventsWriter:
        """Always a new file: a torn one is never continued."""
        if run not in self._writers:
            folder = self._folder / run
            folder.mkdir(parents=True, exist_ok=True)
            self._writers[run] = EventsWriter(str(folder / PREFIX), f".{len(_files(folder))}")
        return self._writers[run]


def read_events(path: Path) -> Iterator[Event]:
    """The whole records of an event file; a torn one ends it."""
    data, at = path.read_bytes(), 0
    while at + LENGTH.size <= len(data):
        length, _ = LENGTH.unpack_from(data, at)
        begin, at = at + LENGTH.size, at + LENGTH.size + length + 4
        if at > len(data):
            return
        try:
            yield Event.FromString(data[begin : begin + length])
        except DecodeError:
            return


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PREFIX}.out.tfevents.*"))
