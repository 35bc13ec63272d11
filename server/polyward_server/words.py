"""Numbers as people read them. Times stay times: the page's script says how long ago they were."""

from __future__ import annotations

ABSENT = "\N{EN DASH}"


def duration(seconds: float | None) -> str:
    """Such as "2 h 5 min"; a dash where there is none."""
    if seconds is None:
        return ABSENT
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"


def size(count: float | None) -> str:
    """Bytes, such as "3.4 MB"."""
    if count is None:
        return ABSENT
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def figure(value: float | None, *, signed: bool = False) -> str:
    """Three digits after the point."""
    if value is None:
        return ABSENT
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three digits after the point, with the sign."""
    return figure(value, signed=True)


def mark(seconds: float) -> str:
    """A place on an axis of time, such as "30 s" or "5 min"."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def short(digest: str) -> str:
    """The beginning of a digest."""
    return digest[:12]
