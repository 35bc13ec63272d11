"""How long each study has trained here, in one small file that outlives the gate."""

from __future__ import annotations

import json
from pathlib import Path

from polyward_client.site import Site
from polyward_shared.problems import Problem
from polyward_shared.whole import write_whole


def used_hours(site: Site, study: str) -> float:
    """The hours of the study of this digest. Raises `Problem` for a damaged file: nobody knows then."""
    return _seconds(_file(site)).get(study, 0.0) / 3600


def add_seconds(site: Site, study: str, seconds: float) -> None:
    """Adds to the study's time; on the disk when this returns."""
    known = _seconds(_file(site))
    known[study] = known.get(study, 0.0) + seconds
    write_whole(_file(site), json.dumps(known).encode())


def _file(site: Site) -> Path:
    return site.gate / "used.json"


def _seconds(path: Path) -> dict[str, float]:
    try:
        known = json.loads(path.read_bytes())
        if not isinstance(known, dict):
            raise TypeError
        return {str(study): float(seconds) for study, seconds in known.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError):
        raise Problem(str(path), "is damaged", remedy="write {} into it; the hours used are counted anew") from None
