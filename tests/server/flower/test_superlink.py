"""The SuperLink's process: what its two sockets answer, what they refuse, and how it ends."""

import dataclasses
import http.client
import importlib
import inspect
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import flwr
import httpx
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata, ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

from polyward_client.gate.fleet import Fleet
from polyward_server.flower.door import (
    FLEET_CALLS,
    HUB_HEADER,
    MAX_OBJECTS_PER_REPLY,
    PRIVATE_PREFIXES,
    Refused,
    check_reply,
)
from polyward_server.flower.superlink import IDLE_LAYERS, SuperLinkConfig, build_app, name_of, read_secret
from tests.support.hub import Hub, public_pem

PROTOBUF = {"content-type": "application/protobuf"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


def connect(hub: Hub, port: int) -> http.client.HTTPSConnection:
    trust = ssl.create_default_context(cadata=hub.authority.pem.decode())
    return http.client.HTTPSConnection("127.0.0.1", port, context=trust, timeout=10)


def status(hub: Hub, port: int, path: str, *, method: str = "POST", secret: bytes | None = None) -> int:
    """Ask with the path exactly as given: no client library may tidy it up."""
    connection = connect(hub, port)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        headers = PROTOBUF if secret is None else PROTOBUF | {HUB_HEADER: secret.decode()}
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("content-length", "0")
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


ELSEWHERE = [
    "/v1/control/start-run",
    "/v1/control/list-nodes",
    "/v1/runtime/acquire-task",
    "/docs",
    "/openapi.json",
    "/health",
    "/",
    "/v1/fleet/",
    "/v1/fleet/register-node",
    "/v1/fleet/unregister-node",
    "/v1/fleet/get-fab",
    "/v1/fleet/get-run",
    "/v1/fleet/../control/list-nodes",
    "/v1/fleet/%2e%2e/control/list-nodes",
    "/v1/fleet/..%2fcontrol%2flist-nodes",
    "/v1/fleet%2f..%2fcontrol/list-nodes",
    "/v1/fleet/pull%2dmessages",
    "/v1/fleet/pull-messages/",
    "/v1/fleet//pull-messages",
    "//v1/fleet/pull-messages",
    "/v1/fleet/pull-messages;/../../control/list-nodes",
    "/V1/FLEET/PULL-MESSAGES",
    "https://127.0.0.1/v1/control/list-nodes",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_public_port_answers_nothing_but_what_a_gate_asks(hub: Hub, path: str) -> None:
    assert status(hub, hub.port, path) == 404
    assert status(hub, hub.port, path, secret=hub.private_secret) == 404


@pytest.mark.parametrize("path", sorted(FLEET_CALLS))
def test_public_port_wants_a_signature_for_every_fleet_call(hub: Hub, path: str) -> None:
    refused = {401} if path != "/v1/fleet/push-messages" else {400}  # an empty reply is refused before that
    assert status(hub, hub.port, path) in refused
    assert status(hub, hub.port, path, method="GET") == 404


def test_private_port_wants_the_secret(hub: Hub) -> None:
    path = "/v1/control/list-nodes"
    assert status(hub, hub.private_port, path, secret=hub.private_secret) == 200
    assert status(hub, hub.private_port, path) == 403
    assert status(hub, hub.private_port, path, secret=b"") == 403
    assert status(hub, hub.private_port, path, secret=hub.private_secret[:-1]) == 403
    assert status(hub, hub.private_port, "/v1/fleet/pull-messages", secret=hub.private_secret) == 404
    assert status(hub, hub.private_port, "/docs", method="GET", secret=hub.private_secret) == 404


def test_private_port_still_wants_the_executors_secret_for_a_task(hub: Hub) -> None:
    assert status(hub, hub.private_port, "/v1/runtime/acquire-task", secret=hub.private_secret) == 401


@pytest.mark.parametrize(
    ("call", "length"), [("push-object", 8 * 2**20 + 1), ("pull-messages", 256 * 1024 + 1), ("push-object", 10**15)]
)
def test_announced_body_over_the_limit_is_refused_unread(hub: Hub, call: str, length: int) -> None:
    connection = connect(hub, hub.port)
    connection.putrequest("POST", f"/v1/fleet/{call}")
    connection.putheader("content-length", str(length))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_chunked_body_over_the_limit_is_refused_while_it_comes(hub: Hub) -> None:
    connection = connect(hub, hub.port)
    connection.putrequest("POST", "/v1/fleet/pull-messages")
    connection.putheader("transfer-encoding", "chunked")
    connection.endheaders()
    piece = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    for _ in range(9):  # nine times 32 KiB, and no end in sight
        connection.send(piece)
    assert connection.getresponse().status == 413
    connection.close()


def reply(*, sender: int, node: int, answers: str = "some order", objects: int = 1) -> PushMessagesRequest:
    tree = ObjectTree(object_id="root", children=[ObjectTree(object_id="leaf") for _ in range(objects - 1)])
    metadata = Metadata(src_node_id=sender, dst_node_id=1, reply_to_message_id=answers)
    return PushMessagesRequest(
        node=Node(node_id=node), messages_list=[Message(metadata=metadata)], message_object_trees=[tree]
    )


def test_a_reply_speaks_for_its_sender_only() -> None:
    check_reply(reply(sender=7, node=7).SerializeToString())
    for forged in (reply(sender=8, node=7), reply(sender=1, node=7, answers=""), reply(sender=7, node=7, answers="")):
        with pytest.raises(Refused, match="403"):
            check_reply(forged.SerializeToString())
    with pytest.raises(Refused, match="413"):
        check_reply(reply(sender=7, node=7, objects=MAX_OBJECTS_PER_REPLY + 1).SerializeToString())


def test_a_registered_site_cannot_address_others_as_the_server(hub: Hub) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with hub.session() as session:
        session.register(public_pem(key), "dishonest")
    fleet = Fleet(hub.address, hub.authority.pem, key, max_payload=2**20)
    node_id = fleet.activate(5.0)
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        fleet._client.PushMessages(reply(sender=1, node=node_id, answers=""))
    fleet.close()


def test_secrets_must_be_private_and_long_enough(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"0123456789abcdef")
    secret.chmod(0o640)
    with pytest.raises(PermissionError, match="chmod 600"):
        read_secret(secret)
    secret.chmod(0o600)
    assert read_secret(secret) == b"0123456789abcdef"
    secret.write_bytes(b"")
    with pytest.raises(ValueError, match="at least 16"):
        read_secret(secret)


def test_sigterm_ends_it_soon_although_a_connection_is_open(tmp_path: Path) -> None:
    with Hub(tmp_path) as hub:
        assert hub.process is not None
        assert psutil.Process(hub.process.pid).children() == []  # nothing is started that could outlive it
        idle = connect(hub, hub.port)
        idle.request("POST", "/v1/fleet/pull-messages", headers=PROTOBUF)
        assert idle.getresponse().read()
        assert hub.stop() < 3
        idle.close()


@pytest.mark.slow
def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    script = (
        "import sys, time, pathlib; from polyward_server.flower.superlink import start;"
        "print(start(pathlib.Path(sys.argv[1])).pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(hub.write_config())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        superlink = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    psutil.wait_procs([superlink], timeout=6)
    assert not superlink.is_running() or superlink.status() == psutil.STATUS_ZOMBIE


# What we use of Flower's inside. A new Flower fails here first, with the name of what changed.
SIGNATURES = {
    "flwr.superlink.main:create_app": ["config", "superlink_lifespan_class"],
    "flwr.superlink.cli.flower_superlink:SuperLinkLifespan": ["config", "state_factory"],
    "flwr.superlink.config_loader:load_control_authn_plugin": [],
    "flwr.superlink.servicer.fleet.fleet_handlers:activate_node": ["request", "state"],
}


def test_flower_is_the_version_whose_internals_we_know() -> None:
    assert flwr.__version__.startswith("1.41."), "read Flower's changes, run the contract tests, then move the pin"


@pytest.mark.parametrize("name", SIGNATURES)
def test_contract_signatures(name: str) -> None:
    module, attribute = name.split(":")
    found = getattr(importlib.import_module(module), attribute, None)
    assert found is not None, f"Flower no longer has {name}"
    assert list(inspect.signature(found).parameters) == SIGNATURES[name], f"Flower changed the call of {name}"


def test_contract_of_the_settings() -> None:
    loader = importlib.import_module("flwr.superlink.config_loader")
    fields = {field.name for field in dataclasses.fields(loader.SuperLinkLifespanConfig)}
    known = "control_address health_server_address host port insecure certificates superexec_auth_secret authn_plugin"
    known += " event_log_plugin fleet_event_log_plugin enable_event_log artifact_provider enable_supernode_auth"
    known += " fleet_api_type fleet_api_address simulation ssl_ca_certfile ssl_certfile ssl_keyfile database isolation"
    known += " runtime_dependency_install"
    assert fields == set(known.split()), "Flower's SuperLink has other settings: is each new one safe by default?"


def test_contract_of_the_heartbeat_floor() -> None:
    handlers = importlib.import_module("flwr.superlink.servicer.fleet.fleet_handlers")
    assert "HEARTBEAT_MIN_INTERVAL" in inspect.getsource(handlers._validate_heartbeat_interval)
    assert hasattr(handlers, "HEARTBEAT_MIN_INTERVAL"), "a killed gate would now be online for 20 s or more"


def test_contract_of_the_paths() -> None:
    paths = {path for _, path in PROTOBUF_REQUEST_TYPES}
    assert paths >= FLEET_CALLS, "Flower renamed Fleet calls that the gate makes"
    left = {path for path in paths - FLEET_CALLS if not path.startswith(PRIVATE_PREFIXES)}
    kept_out = {f"/v1/fleet/{call}" for call in ("register-node", "unregister-node", "get-run", "get-fab")}
    assert left == kept_out, "Flower has new calls: decide on which socket they belong"


def test_contract_of_the_layers(hub: Hub) -> None:
    config = SuperLinkConfig.model_validate_json((hub.folder / "superlink.json").read_bytes())
    source = inspect.getsource(importlib.import_module("flwr.superlink.main")._get_middleware)
    assert all(name in source for name in IDLE_LAYERS), "Flower renamed layers that we leave out"
    kept = [name_of(layer) for layer in build_app(config).user_middleware]
    expected = [
        "BaseHTTPMiddleware",  # translates errors
        "ControlAuthenticationMiddleware",
        "ProtobufTranslationMiddleware",
        "NodeAuthMiddleware",
    ]
    assert kept == expected, "Flower's layers changed: does one of them now protect something?"
