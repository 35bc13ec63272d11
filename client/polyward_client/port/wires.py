"""The port between two processes: gRPC over a Unix socket, one method per request, progress as a stream.

The messages are the interface's own records as JSON. Arrays never pass here, so a message stays small, and both
processes come from the same installation, so no schema language stands between them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from polyward_client.port.interface import Description, Done, Failed, Progress, Work
from polyward_shared.reading import Frozen

SERVICE = "polyward.Trainer"
OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a trainer that was started again is found at once
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class Ask(Frozen):
    """One request of the gate."""

    what: Literal["describe", "train", "finish", "cancel"]
    study: str = ""
    work: Work | None = None


class Reply(Frozen):
    """One message of the answering stream; the last one holds something other than progress."""

    progress: Progress | None = None
    description: Description | None = None
    done: Done | None = None
    failed: Failed | None = None
    cancelled: bool = Field(default=False)


def to_bytes(message: Ask | Reply) -> bytes:
    """JSON without what is at its default: of many figures few have an interval."""
    return message.model_dump_json(exclude_defaults=True).encode()


def ask_from_bytes(data: bytes) -> Ask:
    return Ask.model_validate_json(data)


def reply_from_bytes(data: bytes) -> Reply:
    return Reply.model_validate_json(data)
