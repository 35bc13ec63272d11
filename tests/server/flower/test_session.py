"""The hub's session with a real SuperLink: keys, code-free runs, and what happens when the SuperLink goes."""

import importlib
import inspect
import io
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto, run_from_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest, PushAppMessagesRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity

from polyward_client.gate.link import FleetLink
from polyward_server.flower.bundle import code_free_bundle
from polyward_server.flower.grid import RunGrid, received
from polyward_server.flower.session import RunLost, Session
from tests.support.echo import echoing
from tests.support.hub import Hub, public_pem


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def session(hub: Hub) -> Iterator[Session]:
    with hub.session() as opened:
        yield opened


@pytest.fixture
def link(hub: Hub, session: Session) -> Iterator[FleetLink]:
    key = ec.generate_private_key(ec.SECP256R1())
    session.register(public_pem(key), "site")
    connected = FleetLink(hub.address, hub.authority.pem, key)
    assert connected.connect(threading.Event())
    yield connected
    connected.close()


def order(node_id: int, payload: bytes = b"\x01\x02\x03", kind: str = "train") -> Message:
    array = Array("uint8", (len(payload),), "polyward", payload)
    content = RecordDict({"state": ArrayRecord({"packed": array}), "order": ConfigRecord({"round": 3})})
    return Message(content, dst_node_id=node_id, message_type=kind, ttl=60.0)


def collect(grid: RunGrid, message_ids: list[str], seconds: float = 20.0) -> list[Message]:
    pending, replies, deadline = set(message_ids), [], time.monotonic() + seconds
    while pending and time.monotonic() < deadline:
        arrived = grid.pull_messages(pending)
        pending -= {reply.metadata.reply_to_message_id for reply in arrived}
        replies += arrived
        if not arrived:
            time.sleep(0.02)
    return replies


def unfinished_runs(session: Session) -> list[int]:
    runs = session._control.ListRuns(ListRunsRequest()).run_dict.values()
    return [run.run_id for run in runs if run.status.status != "finished"]


def test_registration_is_idempotent_in_any_spelling_of_the_key(session: Session) -> None:
    pem = public_pem(ec.generate_private_key(ec.SECP256R1()))
    node_id = session.register(pem, "site")
    assert session.register(pem, "site again") == node_id
    assert session.register(pem.replace(b"\n", b"\r\n") + b"\n", "spelled otherwise") == node_id
    state = session.nodes()[node_id]
    assert (state.online, state.last_activated, state.public_key) == (False, None, pem)


def test_an_unregistered_key_is_gone_for_good(session: Session) -> None:
    pem = public_pem(ec.generate_private_key(ec.SECP256R1()))
    node_id = session.register(pem, "site")
    session.unregister(node_id)
    session.unregister(node_id)
    assert node_id not in session.nodes()
    with pytest.raises(ValueError, match="unregistered"):
        session.register(pem, "site")


def test_only_elliptic_curve_keys_are_nodes(session: Session) -> None:
    with pytest.raises(ValueError, match=r"PEM|elliptic|deserialize"):
        session.register(b"no key at all", "site")


def test_the_bundle_holds_one_configuration_file_and_no_code() -> None:
    with zipfile.ZipFile(io.BytesIO(code_free_bundle("mark"))) as bundle:
        assert bundle.namelist() == ["pyproject.toml", ".info/CONTENT"]
        text = bundle.read("pyproject.toml")
        assert bundle.read(".info/CONTENT").decode().split(",")[1] == sha256(text).hexdigest()
    assert code_free_bundle("mark") != code_free_bundle("another")


def test_echo_of_every_record_and_nothing_is_left_behind(session: Session, link: FleetLink) -> None:
    with session.open_run() as run, echoing(link):
        sent = order(link.node_id)
        sent.content["metrics"] = MetricRecord({"loss": 0.25, "curve": [1.0, 2.0]})
        (reply,) = collect(run.grid, run.grid.push_messages([sent]))
        assert reply.metadata.src_node_id == link.node_id
        assert reply.metadata.run_id == run.run_id
        assert reply.content.array_records["state"]["packed"].data == b"\x01\x02\x03"
        assert reply.content.metric_records["metrics"]["curve"] == [1.0, 2.0]
        assert run.run_id in unfinished_runs(session)
        state = session.nodes()[link.node_id]
        assert state.online
        assert abs((state.last_activated or 0) - time.time()) < 60
    assert unfinished_runs(session) == []


def test_a_numpy_array_of_flower_survives_the_way(session: Session, link: FleetLink) -> None:
    sent = np.arange(12, dtype=np.float32).reshape(3, 4)
    with session.open_run() as run, echoing(link):
        content = RecordDict({"arrays": ArrayRecord({"x": Array(sent)})})
        message = Message(content, dst_node_id=link.node_id, message_type="train", ttl=60.0)
        (reply,) = collect(run.grid, run.grid.push_messages([message]))
        np.testing.assert_array_equal(reply.content.array_records["arrays"]["x"].numpy(), sent)


def test_a_run_ends_with_the_block_also_when_the_block_fails(session: Session) -> None:
    def fail() -> None:
        with session.open_run():
            raise LookupError("the round loop broke")

    with pytest.raises(LookupError):
        fail()
    assert unfinished_runs(session) == []


def test_a_sweep_frees_a_link_from_an_order_that_never_comes_whole(session: Session, link: FleetLink) -> None:
    """As after a crash of the hub: the head of an order is announced, its content is never uploaded."""
    with session.open_run() as run:
        message = order(link.node_id)
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            head = message_to_proto(remove_content_from_message(message))
            trees = [get_object_tree(message)]
        run.grid._runtime_client.PushMessages(PushAppMessagesRequest(messages_list=[head], message_object_trees=trees))
        received: list[Message | None] = []
        waiting = threading.Thread(target=lambda: received.append(link.receive()))
        waiting.start()
        waiting.join(timeout=0.5)
        assert waiting.is_alive()
        assert session.sweep() == 1
        waiting.join(timeout=5)
        assert received == [None]
        with pytest.raises(RunLost):
            run.grid.push_messages([order(link.node_id)])
    with session.open_run() as run, echoing(link):
        assert len(collect(run.grid, run.grid.push_messages([order(link.node_id)]))) == 1


def test_a_message_to_nobody_is_reported_and_a_reply_is_never_waited_for(session: Session, link: FleetLink) -> None:
    with session.open_run() as run:
        assert run.grid.push_messages([]) == []
        assert run.grid.push_messages([order(123456789)]) == [""]
        (waiting,) = run.grid.push_messages([order(link.node_id)])
        began = time.monotonic()
        assert run.grid.pull_messages([waiting]) == []
        assert time.monotonic() - began < 1


def test_a_late_reply_can_be_dropped_unread(session: Session, link: FleetLink) -> None:
    with session.open_run() as run, echoing(link):
        (late,) = run.grid.push_messages([order(link.node_id)])
        deadline = time.monotonic() + 10
        while run.grid.discard([late]) != {late}:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (nothing,) = run.grid.pull_messages([late])
        assert nothing.has_error()


def test_an_expired_order_is_answered_with_an_error(session: Session, link: FleetLink) -> None:
    with session.open_run() as run:
        message = order(link.node_id)
        message.metadata.ttl = 0.3
        (answer,) = collect(run.grid, run.grid.push_messages([message]))
        assert answer.has_error()


def contents_of(message: Message) -> dict[str, bytes]:
    return {name: part.deflate() for name, part in get_all_nested_objects(message).items()}


def identified(message: Message) -> Message:
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


@pytest.fixture
def identity() -> None:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


@pytest.mark.usefixtures("identity")
def test_a_message_that_lies_about_itself_gets_the_metadata_that_were_checked() -> None:
    lie = identified(order(5))
    checked = identified(order(6)).metadata
    checked.__dict__["_message_id"] = lie.metadata.message_id
    assert received(checked, contents_of(lie), 2**20).metadata is checked


@pytest.mark.usefixtures("identity")
def test_misshapen_replies_become_errors() -> None:
    message = identified(order(5, payload=bytes(1000)))
    whole = contents_of(message)
    assert received(message.metadata, dict(whole), 2**20).has_content()
    assert received(message.metadata, dict(whole), 999).has_error()  # more than it may hold
    for name in whole:
        broken = {key: value for key, value in whole.items() if key != name}
        assert received(message.metadata, broken, 2**20).has_error()
    array = next(name for name, content in whole.items() if content.startswith(b"Array "))
    bomb = whole[array].replace(b'"arraychunk_ids": [0]', b'"arraychunk_ids": [' + b"0," * 99_999 + b"0]")
    assert bomb != whole[array]
    assert received(message.metadata, whole | {array: bomb}, 2**20).has_error()
    child = message.content.object_id  # a record where a message should be
    message.metadata.__dict__["_message_id"] = child
    assert received(message.metadata, dict(whole), 2**20).has_error()


def hostile_bundle(marker: Path, component: str) -> bytes:
    """A bundle whose every file, once imported, leaves a mark."""
    code = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\napp = None\n"
    config = f"""
[project]
name = "hostile"
version = "1.0.0"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "stranger"
[tool.flwr.app.components]
{component}
[tool.flwr.app.config]
"""
    files = {"pyproject.toml": config, "hostile/__init__.py": code, "hostile/app.py": code}
    listing = [f"{name},{sha256(text.encode()).hexdigest()},{8 * len(text)}" for name, text in files.items()]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        for name, text in files.items():
            bundle.writestr(name, text)
        bundle.writestr(".info/CONTENT", "\n".join(listing))
    return packed.getvalue()


COMPONENTS = {
    TaskType.SERVER_APP: 'serverapp = "hostile.app:app"\nclientapp = "hostile.app:app"',
    TaskType.AGENT_APP: 'agentapp = "hostile.app:app"',
}


@pytest.mark.parametrize("kind", COMPONENTS)
def test_a_hostile_run_executes_nothing_and_stops_nobody(
    hub: Hub, session: Session, link: FleetLink, tmp_path: Path, kind: TaskType
) -> None:
    bundle = hostile_bundle(tmp_path / "executed", COMPONENTS[kind])
    fab = Fab(hash_str=sha256(bundle).hexdigest(), content=bundle)
    hostile = session._control.StartRun(StartRunRequest(fab=fab, user_prompt="send the images")).run_id
    assert hostile, "the SuperLink did not even start it: the test proves nothing"

    with session.open_run() as run, echoing(link):  # its task is older than ours
        assert run.run_id != hostile
        assert len(collect(run.grid, run.grid.push_messages([order(link.node_id)]))) == 1

    # Now somebody who holds every secret acts as the hostile run's server and addresses the link.
    signed = SuperExecAuthHttpInterceptor(
        master_secret=hub.superexec_secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}
    )
    with session._client(RuntimeHttpClient, signed) as queue:
        grant = queue.AcquireTask(AcquireTaskRequest(supported_task_types=[task.value for task in TaskType]))
    assert grant.task.run_id == hostile
    with session._client(RuntimeHttpClient, RuntimeTokenHttpInterceptor(grant.token)) as client:
        task = client.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = task.task_id, hostile, 1
        grid = RunGrid(client, run_from_proto(task.run), max_payload=2**20)
        grid.push_messages([order(link.node_id, kind="query.anything")])
        deadline = time.monotonic() + 10
        while (received := link.receive()) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert (received.metadata.run_id, received.metadata.message_type) == (hostile, "query.anything")
    session._stop(hostile)
    assert link.reply(Message(received.content, reply_to=received), 0.0) is False  # its run is over: dropped
    with session.open_run() as run, echoing(link):
        assert len(collect(run.grid, run.grid.push_messages([order(link.node_id)]))) == 1
    assert not (tmp_path / "executed").exists()


def test_wrong_secrets_are_a_lost_run(hub: Hub) -> None:
    stranger = Session(hub.private_address, hub.authority.pem, private_secret=b"x" * 64, superexec_secret=b"y" * 64)
    with stranger, pytest.raises(RunLost, match="403"):
        stranger.nodes()
    half = Session(
        hub.private_address, hub.authority.pem, private_secret=hub.private_secret, superexec_secret=b"y" * 64
    )
    with half, pytest.raises(RunLost, match="401"), half.open_run():
        raise AssertionError("a run was opened without the executor's secret")
    with hub.session() as session:
        assert unfinished_runs(session) == []


@pytest.mark.slow
def test_a_killed_superlink_loses_the_run_within_bounded_time(tmp_path: Path) -> None:
    with Hub(tmp_path) as hub, hub.session(patience=1.0) as session:

        def outlive_the_superlink() -> None:
            with session.open_run() as run:
                hub.stop(signal.SIGKILL)
                began = time.monotonic()
                with pytest.raises(RunLost, match="reached"):
                    run.grid.pull_messages(["anything"])
                assert time.monotonic() - began < 4
                hub.start()
                run.grid.pull_messages(["anything"])

        with pytest.raises(RunLost, match="401"):
            outlive_the_superlink()
        assert session.nodes() == {}
        with session.open_run() as fresh:
            assert fresh.grid.get_node_ids() == []


# What we use of Flower's inside. A new Flower fails here first, with the name of what changed.
SIGNATURES = {
    "flwr.supercore.control.control_http_client:ControlHttpClient.__init__": [
        "self", "base_url", "interceptors", "verify", "timeout", "retry_invoker",
    ],
    "flwr.superlink.grid.http_grid:HttpGrid.__init__": [
        "self", "runtime_api_address", "insecure", "root_certificates", "token",
    ],
    "flwr.supercore.inflatable.inflatable_utils:inflate_object_from_contents": [
        "object_id", "object_contents", "keep_object_contents", "objects",
    ],
    "flwr.supercore.inflatable.inflatable_utils:pull_objects": [
        "object_ids", "pull_object_fn", "max_concurrent_pulls", "max_time", "max_tries_per_object",
        "initial_backoff", "backoff_cap",
    ],
    "flwr.supercore.inflatable.inflatable_protobuf_utils:make_push_object_fn_protobuf": [
        "push_object_protobuf", "node", "run_id", "session_id",
    ],
    "flwr.supercore.interceptors:SuperExecAuthHttpInterceptor": ["master_secret", "protected_methods"],
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNATURES)
def test_contract_signatures(name: str) -> None:
    module, path = name.split(":")
    found: object = importlib.import_module(module)
    for attribute in path.split("."):
        found = getattr(found, attribute, None)
    assert callable(found), f"Flower no longer has {name}"
    assert list(inspect.signature(found).parameters) == SIGNATURES[name], f"Flower changed the call of {name}"


def test_contract_of_the_grid() -> None:
    grid = importlib.import_module("flwr.superlink.grid.http_grid").HttpGrid
    source = inspect.getsource(grid)
    for attribute in ("self._client", "def _runtime_client", "def set_run", "self.node"):
        assert attribute in source, f"Flower's grid no longer has `{attribute}`, on which RunGrid stands"


def test_contract_of_acquiring_one_task_only() -> None:
    assert "agentapp_fab_hashes" in AcquireTaskRequest.DESCRIPTOR.fields_by_name, (
        "a task can no longer be asked for by its bundle: tasks of strangers would be handed out"
    )


def test_contract_of_errors(session: Session) -> None:
    def ask(client: ControlHttpClient) -> None:
        client.StartRun(StartRunRequest(fab=Fab(hash_str="0", content=b"no zip file")))

    with pytest.raises(httpx.HTTPStatusError):
        ask(session._control)
