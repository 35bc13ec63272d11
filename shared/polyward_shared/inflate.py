"""From Flower's content-addressed objects to a message: the part of its internals that both sides receive with.

Flower's own inflation holds an array three times over; with one array as large as an encoder that is what a process's
memory consists of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from flwr.app import Array, Message, Metadata
from flwr.app.message import make_message
from flwr.supercore.constant import HEAD_BODY_DIVIDER
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_body,
    get_object_head_values_from_object_content,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents


class Misshapen(Exception):
    """The objects do not make up the message that was announced."""


def inflate(metadata: Metadata, contents: dict[str, bytes], max_payload: int) -> Message:
    """The message that these objects make up, under the metadata of its head. Raises `Misshapen`."""
    try:
        arrays = join_arrays(contents, max_payload)
        message = inflate_object_from_contents(metadata.message_id, contents, objects=arrays)
        if not isinstance(message, Message):
            raise TypeError(f"a message was announced, a {type(message).__name__} came")
    except Exception as error:  # objects may say anything, and Flower's parser raise anything
        raise Misshapen(f"{type(error).__name__}: {error}") from error
    if message.has_error():
        return make_message(metadata=metadata, error=message.error)
    return make_message(metadata=metadata, content=message.content)


def join_arrays(contents: Mapping[str, bytes], max_payload: int) -> dict[str, InflatableObject]:
    """Return every array among these objects, each copied once out of its chunks.

    The sum of the chunks is checked first, for an array may name one chunk any number of times.
    """
    arrays: dict[str, InflatableObject] = {}
    for object_id, content in contents.items():
        kind, children, _ = get_object_head_values_from_object_content(content)
        if kind != Array.__qualname__:
            continue
        facts = json.loads(get_object_body(content, Array))
        chunks = [contents[children[index]] for index in facts["arraychunk_ids"]]
        max_payload -= sum(len(chunk) for chunk in chunks)
        if max_payload < 0:
            raise ValueError("the arrays exceed the limit")
        bodies = (memoryview(chunk)[chunk.index(HEAD_BODY_DIVIDER) + len(HEAD_BODY_DIVIDER) :] for chunk in chunks)
        data = b"".join(bodies)
        arrays[object_id] = Array(facts["dtype"], tuple(facts["shape"]), facts["stype"], data)
    return arrays
