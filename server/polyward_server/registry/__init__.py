"""Encoders by digest: their files, what they are called, where they come from, and what is told of them elsewhere."""

from __future__ import annotations

from polyward_server.registry.states import Registry, for_volumes, read_encoder

__all__ = ["Registry", "for_volumes", "read_encoder"]
