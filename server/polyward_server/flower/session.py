"""The hub's side of Flower's Control and Runtime APIs: node keys, and runs that carry no code.

A Flower run belongs to a bundle of code that Flower would install and start for us. Here the bundle holds one
configuration file, made in memory; the session acquires the run's server task itself, as the executor would,
and hands the caller a grid. Nothing of any bundle is unpacked or imported, whoever uploaded it.
"""

import logging
import secrets
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from types import TracebackType
from typing import Self, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from flwr.common.constant import Status
from flwr.common.serde import run_from_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import (
    ProtobufCall,
    ProtobufClient,
    ProtobufClientInterceptor,
    ProtobufRequestContext,
)
from flwr.supercore.retry import RetryInvoker
from flwr.supercore.retry.retry_invoker import exponential
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from flwr.supercore.task_identity import TaskIdentity

from polyward_server.flower.bundle import code_free_bundle
from polyward_server.flower.door import HUB_HEADER
from polyward_server.flower.grid import RunGrid, RunLost, run_lost
from polyward_shared.proxy import spare_loopback_the_proxy

__all__ = ["NodeState", "OpenRun", "RunGrid", "RunLost", "Session"]

log = logging.getLogger(__name__)

Client = TypeVar("Client", bound=ProtobufClient)

HEARTBEAT = 10.0  # seconds; the SuperLink gives up a task after 60 without one (30 before its input is pulled)
SOCKET_SECONDS = 20.0  # for one socket operation, and so the longest that a frozen SuperLink can hold us


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """What the SuperLink knows of one registered node."""

    online: bool
    last_activated: float | None  # unix seconds
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run whose server is this process."""

    run_id: int
    grid: RunGrid


class _Headers:
    """Adds the hub's secret and Flower's version, which the stock interceptor answers by ending the process."""

    def __init__(self, secret: bytes) -> None:
        version = RuntimeVersionMetadata.from_local_component("polyward-hub").as_metadata()
        self._headers = {**dict(version), HUB_HEADER: secret.decode("ascii")}

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        context.request.headers.update(self._headers)
        return call_next(context)


class Session:
    """Speaks to the SuperLink at its private address; one run at a time in a process (Flower's TaskIdentity)."""

    def __init__(
        self,
        address: str,
        ca_pem: bytes,
        *,
        private_secret: bytes,
        superexec_secret: bytes,
        patience: float = 5.0,
        max_payload: int = 4 * 2**30,
    ) -> None:
        """Connect lazily to `address` (host:port); `patience` seconds are the longest a call retries."""
        spare_loopback_the_proxy()
        self._address = address
        self._tls = ssl.create_default_context(cadata=ca_pem.decode("ascii"))
        self._headers = _Headers(private_secret)
        self._superexec_secret = superexec_secret
        self._patience = patience
        self._max_payload = max_payload
        self._control = self._client(ControlHttpClient)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._control.close()

    def register(self, public_key_pem: bytes, name: str) -> int:
        """Return the id of the node with this key, registered now or earlier.

        A key that was unregistered stays unusable until the SuperLink starts anew: ValueError.
        """
        key = _canonical(public_key_pem)
        with run_lost():
            try:
                return self._control.RegisterNode(RegisterNodeRequest(public_key=key, name=name)).node_id
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.PRECONDITION_FAILED:
                    raise
        for node_id, node in self.nodes().items():
            if node.public_key == key:
                return node_id
        raise ValueError(f"the key of {name} was unregistered; Flower accepts it again only after a restart")

    def unregister(self, node_id: int) -> None:
        """Refuse every further call of this node; unknown ids are ignored."""
        with run_lost():
            try:
                self._control.UnregisterNode(UnregisterNodeRequest(node_id=node_id))
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.NOT_FOUND:
                    raise

    def nodes(self) -> dict[int, NodeState]:
        """Return all registered nodes by id."""
        with run_lost():
            known = self._control.ListNodes(ListNodesRequest()).nodes_info
        return {
            node.node_id: NodeState(
                online=node.status == NodeStatus.ONLINE,
                last_activated=_seconds(node.last_activated_at),
                public_key=node.public_key,
            )
            for node in known
            if node.status != NodeStatus.UNREGISTERED
        }

    def sweep(self) -> int:
        """Stop every run that has not ended and return how many there were.

        For a hub that starts after a crash, before it opens a run: a gate may still be waiting for the rest of
        an order that its dead predecessor was uploading, for up to a minute, and a stranger's run is not ours.
        """
        with run_lost():
            runs = self._control.ListRuns(ListRunsRequest()).run_dict.values()
        abandoned = [run.run_id for run in runs if run.status.status != Status.FINISHED]
        for run_id in abandoned:
            self._stop(run_id)
        return len(abandoned)

    @contextmanager
    def open_run(self) -> Iterator[OpenRun]:
        """Start a run, be its server inside the `with`, and leave nothing of it behind."""
        bundle = code_free_bundle(secrets.token_hex(16))
        digest = sha256(bundle).hexdigest()
        with run_lost():
            started = self._control.StartRun(StartRunRequest(fab=Fab(hash_str=digest, content=bundle)))
        try:
            with self._task(started.run_id, digest) as client:
                with run_lost():
                    task = client.PullTaskInput(PullTaskInputRequest())
                TaskIdentity.task_id = task.task_id
                TaskIdentity.run_id = task.run.run_id
                TaskIdentity.node_id = task.context.node_id
                grid = RunGrid(client, run_from_proto(task.run), max_payload=self._max_payload)
                with _heartbeat(client):
                    yield OpenRun(run_id=started.run_id, grid=grid)
        finally:
            self._stop(started.run_id)

    @contextmanager
    def _task(self, run_id: int, bundle_digest: str) -> Iterator[RuntimeHttpClient]:
        """Claim the run's server task and yield a client that carries its token.

        Only tasks of our own bundle are asked for (Flower's request has a field for that), and its digest is
        random: a run that somebody else started is never handed to us and so never gets a server.
        """
        sign = SuperExecAuthHttpInterceptor(
            master_secret=self._superexec_secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}
        )
        with self._client(RuntimeHttpClient, sign) as queue, run_lost():
            grant = queue.AcquireTask(AcquireTaskRequest(agentapp_fab_hashes=[bundle_digest]))
        if not grant.token or grant.task.run_id != run_id:
            raise RunLost(f"the SuperLink did not hand out the task of run {run_id}")
        with self._client(RuntimeHttpClient, RuntimeTokenHttpInterceptor(grant.token)) as client:
            yield client

    def _stop(self, run_id: int) -> None:
        """End the run and delete its messages; whatever keeps it from that has ended the run already."""
        try:
            self._control.StopRun(StopRunRequest(run_id=run_id))
        except httpx.HTTPError as error:
            log.info("run %d was not there to be stopped: %s", run_id, error)

    def _client(self, kind: type[Client], *interceptors: ProtobufClientInterceptor) -> Client:
        """Return a client whose calls retry for `patience` seconds and then fail."""
        retry = RetryInvoker(
            lambda: exponential(base_delay=0.1, max_delay=1),
            httpx.TransportError,
            max_tries=None,
            max_time=self._patience,
        )
        return kind(
            f"https://{self._address}",
            interceptors=[self._headers, *interceptors],
            verify=self._tls,
            timeout=SOCKET_SECONDS,
            retry_invoker=retry,
        )


@contextmanager
def _heartbeat(client: RuntimeHttpClient) -> Iterator[None]:
    """Keep the task alive. A failure is not reported here: the next call on the grid meets it too."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT):
            try:
                client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
            except httpx.HTTPError as error:
                log.info("the run's heartbeat failed: %s", error)

    thread = threading.Thread(target=beat, name="run heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _canonical(public_key_pem: bytes) -> bytes:
    """Return the key in the one spelling that a node sends: Flower compares the bytes."""
    key = load_pem_public_key(public_key_pem)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("a node's key must be an elliptic-curve key")
    return public_key_to_bytes(key)


def _seconds(moment: str) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None
