"""Flower's Fleet API as a gate speaks it: signed calls, orders pulled, replies pushed.

A stock SuperNode would fetch a run's bundle and execute it. Nothing here can ask for a bundle: of the calls
that Flower's own client offers, six are used, and the hub's door answers no others that matter.
"""

import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.app import Message, Metadata
from flwr.app.message import remove_content_from_message
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.common.serde import message_to_proto
from flwr.common.serde_utils import metadata_from_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
)
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supernode.fleet_http_client import FleetHttpClient

from polyward_shared.inflate import inflate

P = ParamSpec("P")
T = TypeVar("T")

TRANSFERS = 2  # chunks in flight, 5 MiB each and five times that in copies; more gained nothing
SOCKET_SECONDS = 20.0  # for one socket operation
UPLOAD_SECONDS = 600.0  # for the hub to finish uploading an order that it has announced
RETRIES = (0.1, 0.3, 1.0, 2.0, 2.0, 2.0)  # pauses after a broken connection, per transferred object


class Signature:
    """Signs each call with the node's key. Flower's own class for this draws in a web framework: 20 MB."""

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        self._private_key = private_key
        self.public_key = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the three headers that identify the node."""
        timestamp = now().isoformat()
        signature = self._private_key.sign(timestamp.encode("ascii"), ec.ECDSA(hashes.SHA256()))
        context.request.headers.update(
            {
                FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(self.public_key).decode("ascii"),
                TIMESTAMP_HEADER: timestamp,
                FLEET_HTTP_SIGNATURE_HEADER: b64encode(signature).decode("ascii"),
            }
        )
        return call_next(context)


class Fleet:
    """The calls of one node. Raises what httpx and Flower raise; it keeps no state but connections."""

    def __init__(
        self, address: str, ca_pem: bytes, private_key: ec.EllipticCurvePrivateKey, *, max_payload: int
    ) -> None:
        signature = Signature(private_key)
        self._public_key = signature.public_key
        self._max_payload = max_payload
        self._client = FleetHttpClient(
            f"https://{address}",
            interceptors=[signature],
            verify=ssl.create_default_context(cadata=ca_pem.decode("ascii")),
            timeout=SOCKET_SECONDS,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def activate(self, heartbeat_seconds: float) -> int:
        """Go online and return the node's id."""
        request = ActivateNodeRequest(public_key=self._public_key, heartbeat_interval=heartbeat_seconds)
        return self._client.ActivateNode(request).node_id

    def deactivate(self, node_id: int) -> None:
        """Go offline."""
        self._client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))

    def heartbeat(self, node_id: int, heartbeat_seconds: float) -> bool:
        """Stay online; False when the hub does not know the node."""
        request = SendNodeHeartbeatRequest(node=Node(node_id=node_id), heartbeat_interval=heartbeat_seconds)
        return self._client.SendNodeHeartbeat(request).success

    def announced(self, node_id: int) -> tuple[Metadata, ObjectTree] | None:
        """Return the head of the next order, or None. The hub hands out each head once."""
        response = self._client.PullMessages(PullMessagesRequest(node=Node(node_id=node_id)))
        if not response.messages_list:
            return None
        if not response.message_object_trees:
            raise ValueError("a message came without the tree of its objects")
        return metadata_from_proto(response.messages_list[0].metadata), response.message_object_trees[0]

    def fetch(self, node_id: int, metadata: Metadata, tree: ObjectTree) -> Message:
        """Return the order with its content, waiting for objects that the hub is still uploading."""
        node = Node(node_id=node_id)
        pull = retried(make_pull_object_fn_protobuf(self._client.PullObject, node, metadata.run_id))
        contents = pull_objects(
            list(dict.fromkeys(part.object_id for part in iterate_object_tree(tree))),  # in the order of upload
            pull,
            max_concurrent_pulls=TRANSFERS,
            max_time=UPLOAD_SECONDS,
            max_tries_per_object=None,
            initial_backoff=0.02,
            backoff_cap=0.5,
        )
        self._client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=node, run_id=metadata.run_id, message_object_id=metadata.message_id)
        )
        return inflate(metadata, contents, self._max_payload)

    def answer(self, node_id: int, reply: Message, seconds_worked: float) -> None:
        """Upload a reply, its root last: the hub fetches a reply as soon as the root is there."""
        with no_object_id_recompute():
            root = reply.metadata.__dict__["_message_id"] = reply.object_id
            objects = get_all_nested_objects(reply)
            tree = get_object_tree(reply)
        node = Node(node_id=node_id)
        response = self._client.PushMessages(
            PushMessagesRequest(
                node=node,
                messages_list=[message_to_proto(remove_content_from_message(reply))],
                message_object_trees=[tree],
                clientapp_runtime_list=[seconds_worked],
            )
        )
        missing = set(response.objects_to_push)
        push = retried(
            make_push_object_fn_protobuf(self._client.PushObject, node, reply.metadata.run_id, response.session_id)
        )
        with ThreadPoolExecutor(TRANSFERS) as pool:  # each worker holds one deflated chunk, not all of them
            parts = [name for name in objects if name in missing and name != root]
            list(pool.map(lambda name: push(name, objects[name].deflate()), parts))
        if root in missing:
            push(root, objects[root].deflate())


def retried(call: Callable[P, T]) -> Callable[P, T]:
    """Return the call with a few patient repetitions when the connection breaks under it."""

    def patient(*args: P.args, **kwargs: P.kwargs) -> T:
        for pause in RETRIES:
            try:
                return call(*args, **kwargs)
            except httpx.TransportError:
                time.sleep(pause)
        return call(*args, **kwargs)

    return patient
