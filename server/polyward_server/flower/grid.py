"""The hub's grid: Flower's own `Grid`, made for a round loop that never stalls.

Three things differ from the stock `HttpGrid`. Trouble surfaces as one error, `RunLost`, within seconds (the
stock one retries for ever and, on a forgotten token, signals its own process). A reply that is announced but
not yet uploaded does not block the call: it is kept in mind and asked for again at the next call, so that a
slow or silent site holds up nobody. And a payload is copied as few times as Flower's formats allow.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.node_pb2 import NodeInfo
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PushAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    ObjectUnavailableError,
    pull_objects,
)
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid.http_grid import HttpGrid

from polyward_shared.inflate import Misshapen, inflate

TRANSFERS = 2  # chunks in flight, 5 MiB each and five times that in copies; more gained nothing
STRAGGLERS = 10.0  # seconds for the parts of a reply whose last part is already there
GONE = frozenset({401, 403, 404, 500, 502, 503, 504})


class RunLost(Exception):
    """The SuperLink cannot be reached or no longer knows this run: open a new one."""


@contextmanager
def run_lost() -> Iterator[None]:
    """Turn every sign that the SuperLink is gone, or has forgotten us, into RunLost."""
    try:
        yield
    except httpx.TransportError as error:
        raise RunLost(f"the SuperLink cannot be reached: {error}") from error
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in GONE:
            raise
        raise RunLost(f"the SuperLink refused: {error.response.status_code}") from error
    except ObjectPushError as error:
        raise RunLost(str(error)) from error


@dataclass(frozen=True, slots=True)
class Announced:
    """A reply whose head the SuperLink has handed out, and whose content may still be on its way."""

    metadata: Metadata  # of the head: the door and the SuperLink have checked it, the content's own copy nobody
    tree: ObjectTree


class RunGrid(HttpGrid):
    """The grid of one run, over a client that already carries the run's token."""

    def __init__(self, client: RuntimeHttpClient, run: Run, *, max_payload: int) -> None:
        super().__init__(token="-")  # noqa: S106 (the client carries the token; HttpGrid only wants one)
        self._client = client
        self.set_run(run)
        self._max_payload = max_payload
        self._announced: dict[str, Announced] = {}

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return the nodes that are online."""
        with run_lost():
            return super().get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages and return their ids in order; "" stands for one that no node can receive.

        Content shared by several messages (one RecordDict for all sites) is uploaded once.
        """
        batch = list(messages)
        if not batch:
            return []
        objects: dict[str, InflatableObject] = {}
        with run_lost(), no_object_id_recompute():
            for message in batch:
                message.metadata.__dict__["_message_id"] = message.object_id
                objects |= get_all_nested_objects(message)
            response = self._runtime_client.PushMessages(
                PushAppMessagesRequest(
                    messages_list=[message_to_proto(remove_content_from_message(message)) for message in batch],
                    message_object_trees=[get_object_tree(message) for message in batch],
                )
            )
            push = make_push_object_fn_protobuf(
                self._runtime_client.PushObject, self.node, self.run.run_id, response.session_id
            )
            missing = set(response.objects_to_push)
            with ThreadPoolExecutor(TRANSFERS) as pool:  # each worker holds one deflated chunk, not all of them
                uploads = [(name, part) for name, part in objects.items() if name in missing]
                list(pool.map(lambda upload: push(upload[0], upload[1].deflate()), uploads))
        return list(response.message_ids)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the reply to one of these messages if one is complete, else an empty list; never wait for it.

        One at a time, so that the caller can fold it before the next takes memory. A node that went away, a
        message that expired or a reply that cannot be read is answered with a message that carries an error.
        The metadata say who sent it (`src_node_id`, 1 for the SuperLink itself) and can be relied upon.
        """
        wanted = set(message_ids)
        with run_lost():
            self._ask(wanted - self._announced.keys())
            for message_id in wanted & self._announced.keys():
                if (reply := self._fetch(self._announced[message_id])) is not None:
                    del self._announced[message_id]
                    return [reply]
        return []

    def discard(self, message_ids: Iterable[str]) -> set[str]:
        """Drop the replies to these messages that have arrived, unread; return the messages that they answered.

        Call it now and then for orders that are no longer waited for: a reply that nobody fetches stays in the
        SuperLink's memory until the run ends.
        """
        wanted = set(message_ids)
        with run_lost():
            self._ask(wanted - self._announced.keys())
            answered = wanted & self._announced.keys()
            for message_id in answered:
                self._confirm(self._announced.pop(message_id))
        return answered

    def _ask(self, message_ids: set[str]) -> None:
        """Note the replies that the SuperLink announces; it announces each once."""
        if not message_ids:
            return
        response = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=message_ids))
        for head, tree in zip(response.messages_list, response.message_object_trees, strict=True):
            if head.metadata.reply_to_message_id in message_ids:
                metadata = metadata_from_proto(head.metadata)
                self._announced[metadata.reply_to_message_id] = Announced(metadata, tree)

    def _fetch(self, reply: Announced) -> Message | None:
        """Return an announced reply, None while its upload goes on, an error in its place if it is unusable."""
        root = reply.metadata.message_id
        pull = make_pull_object_fn_protobuf(self._runtime_client.PullObject, self.node, self.run.run_id)
        try:
            contents = {root: pull(root)}  # a gate uploads it last
            contents |= pull_objects(
                list({node.object_id for node in iterate_object_tree(reply.tree)} - {root}),
                pull,
                max_concurrent_pulls=TRANSFERS,
                max_time=STRAGGLERS,
                max_tries_per_object=None,
                initial_backoff=0.02,
                backoff_cap=0.5,
            )
        except ObjectUnavailableError:
            return None
        except ObjectPullError as error:
            return make_message(metadata=reply.metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, str(error)))
        self._confirm(reply)
        return received(reply.metadata, contents, self._max_payload)

    def _confirm(self, reply: Announced) -> None:
        """Let the SuperLink delete the reply."""
        self._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=self.node, run_id=self.run.run_id, message_object_id=reply.metadata.message_id
            )
        )


def received(metadata: Metadata, contents: dict[str, bytes], max_payload: int) -> Message:
    """The message that these objects make up, or an error in its place: a misshapen reply is the fault of that site."""
    try:
        return inflate(metadata, contents, max_payload)
    except Misshapen as error:
        return make_message(metadata=metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, str(error)))
