"""The folder that a hospital unpacks and starts: its texts, which lie here, filled in for one site."""

from __future__ import annotations

from polyward_server.bundle.writing import write_bundle

__all__ = ["write_bundle"]
