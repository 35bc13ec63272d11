"""Files of a vault that were never finished."""

from __future__ import annotations

from pathlib import Path


def drafts(folder: Path) -> list[Path]:
    """What a crash left in a study's folder of files that were never finished; only where nothing else writes now."""
    return [path for end in (".safetensors", ".json") for path in folder.glob(f".*{end}.*")]
