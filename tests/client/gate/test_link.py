"""The gate's link with a real SuperLink: getting online, staying online, and carrying large orders."""

import importlib
import inspect
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flwr.app import Array, ArrayRecord, Message, Metadata, RecordDict

from polyward_client.gate.link import FleetLink, LinkState, clock_difference
from polyward_server.flower.grid import RunGrid
from polyward_server.flower.session import Session
from polyward_shared.inflate import Misshapen, inflate
from tests.support.certificates import Authority
from tests.support.echo import echoing
from tests.support.hub import Hub, free_port, public_pem


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def session(hub: Hub) -> Iterator[Session]:
    with hub.session() as opened:
        yield opened


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for the condition and return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - began


def order(node_id: int, payload: bytes = b"\x07") -> Message:
    content = RecordDict({"state": ArrayRecord({"packed": Array("uint8", (len(payload),), "polyward", payload)})})
    return Message(content, dst_node_id=node_id, message_type="train", ttl=60.0)


def round_trip(grid: RunGrid, message: Message, seconds: float = 20.0) -> Message:
    pushed = grid.push_messages([message])
    replies: list[Message] = []

    def arrived() -> bool:
        replies.extend(grid.pull_messages(pushed))
        return bool(replies)

    until(arrived, seconds)
    return replies[0]


@pytest.mark.slow
def test_an_unregistered_key_waits_and_then_works(
    hub: Hub, session: Session, key: ec.EllipticCurvePrivateKey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "polyward_client.gate.link")
    link = FleetLink(hub.address, hub.authority.pem, key, heartbeat_seconds=1.0)
    stop = threading.Event()
    waiting = threading.Thread(target=link.connect, args=(stop,))
    waiting.start()
    until(lambda: link.state is LinkState.NOT_REGISTERED, 8)
    assert link.receive() is None
    assert waiting.is_alive()
    node_id = session.register(public_pem(key), "site")
    waiting.join(timeout=5)
    assert (link.state, link.node_id) == (LinkState.ONLINE, node_id)
    link.close()
    assert link.state is LinkState.CLOSED
    assert not session.nodes()[node_id].online
    lines = [record.message for record in caplog.records if record.name == "polyward_client.gate.link"]
    assert len(lines) == len(set(lines)) == 4  # one line for each change of state, however many attempts


def test_a_large_array_goes_there_and_back(hub: Hub, session: Session, key: ec.EllipticCurvePrivateKey) -> None:
    node_id = session.register(public_pem(key), "site")
    link = FleetLink(hub.address, hub.authority.pem, key)
    assert link.connect(threading.Event())
    payload = np.random.default_rng(5).bytes(12_000_000)
    with session.open_run() as run, echoing(link):
        reply = round_trip(run.grid, order(node_id, payload))
        assert reply.metadata.src_node_id == node_id
        assert reply.content.array_records["state"]["packed"].data == payload
    link.close()


def test_stop_ends_the_wait_for_a_hub_that_is_not_there(key: ec.EllipticCurvePrivateKey) -> None:
    link = FleetLink(f"127.0.0.1:{free_port()}", Authority.create().pem, key)
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    assert link.connect(stop) is False
    assert link.state is LinkState.UNREACHABLE
    link.close()


def test_a_hub_with_a_strangers_certificate_is_told_apart(hub: Hub, key: ec.EllipticCurvePrivateKey) -> None:
    link = FleetLink(hub.address, Authority.create("Another CA").pem, key)
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    assert link.connect(stop) is False
    assert link.state is LinkState.UNTRUSTED
    link.close()


def test_a_wrong_clock_is_told_apart(
    hub: Hub, session: Session, key: ec.EllipticCurvePrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.register(public_pem(key), "site")
    ahead = 3600.0
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + ahead)
    monkeypatch.setattr("polyward_client.gate.fleet.now", lambda: datetime.now(UTC) + timedelta(seconds=ahead))
    link = FleetLink(hub.address, hub.authority.pem, key)
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    assert link.connect(stop) is False
    assert link.state is LinkState.CLOCK_SKEW
    link.close()


def test_clock_difference_is_read_from_the_answer() -> None:
    stamp = format_datetime(datetime.now(UTC) - timedelta(seconds=100), usegmt=True)
    assert clock_difference(httpx.Response(401, headers={"date": stamp})) == pytest.approx(100, abs=2)
    assert clock_difference(httpx.Response(401)) == 0.0


def test_a_reply_to_a_run_that_ended_is_dropped(hub: Hub, session: Session, key: ec.EllipticCurvePrivateKey) -> None:
    node_id = session.register(public_pem(key), "site")
    link = FleetLink(hub.address, hub.authority.pem, key)
    assert link.connect(threading.Event())
    received: list[Message] = []

    def arrived() -> bool:
        received.extend(message for message in [link.receive()] if message)
        return bool(received)

    with session.open_run() as run:
        run.grid.push_messages([order(node_id)])
        until(arrived, 5)
    assert link.reply(Message(received[0].content, reply_to=received[0]), 1.0) is False
    with session.open_run() as run, echoing(link):
        assert round_trip(run.grid, order(node_id)).has_content()
    link.close()


def test_an_order_whose_answer_is_lost_is_missed_by_the_hub(
    hub: Hub, session: Session, key: ec.EllipticCurvePrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub hands it out once; without a sign of the loss it would wait for it until the round's deadline."""
    node_id = session.register(public_pem(key), "site")
    link = FleetLink(hub.address, hub.authority.pem, key)
    assert link.connect(threading.Event())
    handed_out = link._fleet.announced

    def cut_afterwards(node: int) -> None:
        if handed_out(node) is not None:
            raise httpx.ReadError("the connection was cut")

    with session.open_run() as run:
        with monkeypatch.context() as cut:
            cut.setattr(link._fleet, "announced", cut_afterwards)
            pushed = run.grid.push_messages([order(node_id)])
            until(lambda: link.receive() is None and not link._online.is_set(), 5)
        replies: list[Message] = []

        def arrived() -> bool:
            replies.extend(run.grid.pull_messages(pushed))
            return bool(replies)

        until(arrived, 10)
        assert replies[0].has_error()
        until(lambda: link.state is LinkState.ONLINE and link._online.is_set(), 5)
        with echoing(link):
            assert round_trip(run.grid, order(node_id)).has_content()
    link.close()


def test_a_misshapen_order_is_an_error_of_its_own(hub: Hub, key: ec.EllipticCurvePrivateKey) -> None:
    metadata = order_metadata()
    with pytest.raises(Misshapen, match="ValueError"):
        inflate(metadata, {metadata.message_id: b"no head"}, 2**20)
    with pytest.raises(Misshapen, match="KeyError"):
        inflate(metadata, {}, 2**20)


def order_metadata() -> Metadata:
    return Metadata(
        run_id=1,
        message_id="0" * 64,
        src_node_id=1,
        dst_node_id=5,
        reply_to_message_id="",
        group_id="",
        created_at=time.time(),
        ttl=60.0,
        message_type="train",
    )


@pytest.mark.slow
def test_the_link_outlives_a_hub_that_lost_everything(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    with Hub(tmp_path) as hub, hub.session(patience=1.0) as session:
        first = session.register(public_pem(key), "site")
        link = FleetLink(hub.address, hub.authority.pem, key, heartbeat_seconds=2.0)
        assert link.connect(threading.Event())
        hub.stop(signal.SIGKILL)
        until(lambda: link.state is LinkState.UNREACHABLE, 5)
        assert link.receive() is None
        hub.start()
        until(lambda: link.state in (LinkState.STILL_ACTIVE, LinkState.NOT_REGISTERED), 5)
        second = session.register(public_pem(key), "site")
        until(lambda: link.state is LinkState.ONLINE, 5)
        assert link.node_id == second != first
        with session.open_run() as run, echoing(link):
            assert round_trip(run.grid, order(second)).has_content()
        link.close()


@pytest.mark.slow
def test_a_killed_link_is_back_within_twelve_seconds(
    hub: Hub, session: Session, key: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    node_id = session.register(public_pem(key), "site")
    (tmp_path / "ca").write_bytes(hub.authority.pem)
    (tmp_path / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    command = [sys.executable, "-m", "tests.support.echo", hub.address, str(tmp_path / "ca"), str(tmp_path / "key")]
    root = Path(__file__).parents[3]
    for attempt in range(2):
        began = time.monotonic()
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                idle_megabytes = int(process.stdout.readline())
                seconds = time.monotonic() - began
                with session.open_run() as run:
                    assert round_trip(run.grid, order(node_id)).has_content()
            finally:
                process.kill()
        assert seconds < (5, 13)[attempt]  # two heartbeats of five seconds after it was killed, and a start
        assert idle_megabytes < 100  # of the gate's 120


def test_the_module_needs_no_web_framework_and_no_torch() -> None:
    script = (
        "import sys, polyward_client.gate.link; print(*sorted({'fastapi', 'torch', 'uvicorn'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [], "the gate's memory grows by 20 MB or more"


def test_loopback_is_spared_the_proxy(key: ec.EllipticCurvePrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    monkeypatch.setenv("no_proxy", "intranet.example")
    FleetLink("127.0.0.1:1", Authority.create().pem, key).close()
    assert os.environ["NO_PROXY"].split(",") == ["127.0.0.1", "intranet.example", "localhost"]


# What we use of Flower's inside. A new Flower fails here first, with the name of what changed.
SIGNATURES = {
    "flwr.supernode.fleet_http_client:FleetHttpClient.__init__": [
        "self", "base_url", "interceptors", "verify", "timeout", "retry_invoker",
    ],
    "flwr.supernode.node_auth_http_interceptor:NodeAuthHttpInterceptor.__init__": [
        "self", "private_key", "public_key",
    ],
    "flwr.app.message:make_message": ["metadata", "content", "error"],
    "flwr.supercore.inflatable.inflatable_utils:inflate_object_from_contents": [
        "object_id", "object_contents", "keep_object_contents", "objects",
    ],
    "flwr.supercore.inflatable.inflatable_utils:pull_objects": [
        "object_ids", "pull_object_fn", "max_concurrent_pulls", "max_time", "max_tries_per_object",
        "initial_backoff", "backoff_cap",
    ],
    "flwr.supercore.inflatable.inflatable_protobuf_utils:make_pull_object_fn_protobuf": [
        "pull_object_protobuf", "node", "run_id",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNATURES)
def test_contract_signatures(name: str) -> None:
    module, path = name.split(":")
    found: object = importlib.import_module(module)
    for attribute in path.split("."):
        found = getattr(found, attribute, None)
    assert callable(found), f"Flower no longer has {name}"
    assert list(inspect.signature(found).parameters) == SIGNATURES[name], f"Flower changed the call of {name}"


def test_contract_of_the_signature(key: ec.EllipticCurvePrivateKey) -> None:
    """Ours and Flower's own interceptor must send the same headers: the hub reads Flower's."""
    client = importlib.import_module("flwr.supercore.protobuf.client")
    stock = importlib.import_module("flwr.supernode.node_auth_http_interceptor").NodeAuthHttpInterceptor
    ours = importlib.import_module("polyward_client.gate.fleet").Signature

    def headers(interceptor: object) -> dict[str, str]:
        request = httpx.Request("POST", "https://hub/v1/fleet/pull-messages")
        context = client.ProtobufRequestContext(rpc_method="", message=None, request=request)
        interceptor.intercept(context, lambda _: httpx.Response(200))  # type: ignore[attr-defined]
        return dict(request.headers)

    theirs, mine = headers(stock(key, key.public_key())), headers(ours(key))
    assert theirs.keys() == mine.keys(), "Flower signs its calls with other headers"
    same = [name for name in theirs if "public-key" in name]
    assert [theirs[name] for name in same] == [mine[name] for name in same] != []
