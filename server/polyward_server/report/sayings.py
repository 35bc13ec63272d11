"""How methods are said: subjects, sentences, sources."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from polyward_server.report.sources import source_of


@dataclass(frozen=True, slots=True)
class Method:
    """One subject: what is said of it, and where it comes from."""

    subject: str
    sentences: tuple[str, ...]
    sources: tuple[str, ...] = ()


def cited(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found for name in names if (found := source_of(name))))


def many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
