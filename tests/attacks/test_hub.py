"""A hub in an attacker's hands: on the control plane, on Flower's side, and at the first contact."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from flwr.app import Message
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata as ProtoMetadata
from flwr.proto.message_pb2 import ObjectTree

from polyward_client.enrolment import fetch_authority, keep_certificate
from polyward_client.gate import control
from polyward_client.gate.__main__ import Orders
from polyward_client.gate.control import ControlLink
from polyward_client.gate.link import FleetLink
from polyward_client.gate.receipts import keep_receipt, read_receipts, verify
from polyward_client.gate.rotation import rotate_key
from polyward_server.history import check_receipts
from polyward_server.ledger import Ledger
from polyward_shared import pki
from polyward_shared.chain import Chain, read_chain
from polyward_shared.checkpoints import Receipt
from polyward_shared.invitation import Invitation
from polyward_shared.messages import Order
from polyward_shared.problems import Code, Problem
from polyward_shared.protos import control_pb2 as pb
from tests.attacks.hostile_hub import HostileHub, linked
from tests.client.gate.test_gate import TRAIN, Bench
from tests.support.certificates import Authority
from tests.support.messages import order_message
from tests.support.real_hub import until


def command(order: int, study: str = "", number: int = 1) -> bytes:
    said = pb.Command(id=number, order=order, study=study)  # type: ignore[arg-type]  # also numbers of no order
    data: bytes = pb.FromHub(command=said).SerializeToString()
    return data


def answers(said: Iterator[pb.FromNode], count: int) -> list[pb.Answer]:
    found = []
    for message in said:
        if message.WhichOneof("said") == "answer":
            found.append(message.answer)
            if len(found) == count:
                break
    return found


# --- commands


def test_commands_that_there_are_not_are_declined(tmp_path: Path) -> None:
    given: list[pb.Answer] = []

    def says(said: Iterator[pb.FromNode]) -> Iterator[bytes]:
        orders = [0, 3, 77, 2**31 - 1, -1]
        yield from (command(order, "../../" * 1000, 2**64 - 1 - place) for place, order in enumerate(orders))
        yield b""
        given.extend(answers(said, len(orders)))

    heard: list[str] = []
    with linked(HostileHub(tmp_path, says), heard):
        until(lambda: len(given) >= 5)
    assert not any(answer.obeyed for answer in given)
    assert heard == []


def test_a_flood_of_commands_is_not_answered_one_by_one(tmp_path: Path) -> None:
    """What waits to be said stays small, and a command for work that is not at hand ends nothing."""
    most = 0

    def says(said: Iterator[pb.FromNode]) -> Iterator[bytes]:
        for number in range(5000):
            yield command(pb.CANCEL, "f" * 64, number)
        flooded.set()
        for _ in said:
            pass

    flooded = threading.Event()
    heard: list[str] = []
    hub = HostileHub(tmp_path, says)
    with linked(hub, heard) as link:
        link.courses.begins("e" * 64, 1)
        while not flooded.wait(0.01):
            most = max(most, len(link._pending))
    assert most <= control.MOST_PENDING
    assert heard == []
    [line] = [entry for entry in read_chain(hub.site.sent) if entry["what"] == "control"]
    assert line["detail"]["answer"] <= 10 * control.MOST_PENDING


@pytest.mark.parametrize("size", [65 * 1024, 5 << 20])
def test_a_message_beyond_the_limit_ends_the_connection_and_not_the_link(tmp_path: Path, size: int) -> None:
    def says(said: Iterator[pb.FromNode]) -> Iterator[bytes]:
        yield command(pb.WAKE, "x" * size)
        for _ in said:
            pass

    heard: list[str] = []
    hub = HostileHub(tmp_path, says)
    with linked(hub, heard):
        until(lambda: hub.connections >= 2)
    assert heard == []


@pytest.mark.parametrize("data", [b"\xff" * 30, b"\x0a\x7f", b"\x12\x02\x08"])
def test_bytes_that_are_no_message_end_the_connection_and_not_the_link(tmp_path: Path, data: bytes) -> None:
    hub = HostileHub(tmp_path, lambda said: iter((data,)))
    with linked(hub):
        until(lambda: hub.connections >= 2)


# --- receipts


def receipt_bytes(hub: HostileHub, receipt: Receipt, certificate: bytes | None = None) -> bytes:
    signature = pki.signed(hub.server_key, receipt.statement())
    certificate = pki.certificate_to_pem(hub.server) if certificate is None else certificate
    fields = receipt.model_dump(exclude={"site"})
    data: bytes = pb.FromHub(
        receipt=pb.Receipt(**fields, signature=signature, certificate=certificate)
    ).SerializeToString()
    return data


def checkpoint(said: Iterator[pb.FromNode]) -> pb.Checkpoint:
    return next(message.checkpoint for message in said if message.WhichOneof("said") == "checkpoint")


def test_a_receipt_for_what_was_never_stated_does_not_accuse_the_site(tmp_path: Path) -> None:
    """Signed by the hub, of a record longer than the site's: kept, it would say that the site had cut its own."""
    done = threading.Event()

    def says(said: Iterator[pb.FromNode]) -> Iterator[bytes]:
        stated = checkpoint(said)
        plain = {
            "site": "a",
            "count": stated.count,
            "hash": stated.hash,
            "at": stated.at,
            "rounds": 0,
            "head": "0" * 64,
        }
        for forged in ({"count": 99}, {"hash": "f" * 64}, {"at": "2020-01-01T00:00:00+00:00"}, {}, {}):
            yield receipt_bytes(hub, Receipt(**{**plain, **forged, "rounds": 0, "head": "0" * 64}))
        done.set()
        for _ in said:
            pass

    hub = HostileHub(tmp_path, says)
    Chain(hub.site.sent).append({"what": "report", "kind": "train.round"})
    with linked(hub):
        assert done.wait(20)
        until(hub.site.checkpoints.exists)
        time.sleep(0.3)
    assert [kept.receipt.count for kept in read_receipts(hub.site.checkpoints)] == [1], "the sound one, and once"
    assert verify(hub.site)[1] == 1


def odd_certificates(hub: HostileHub) -> list[bytes]:
    """Of the hub's own authority, and none vouches for a receipt."""
    node = hub.certify("a", hub.server_key.public_key())
    plain = _certificate(hub, hub.server_key.public_key(), [])
    other_kind = _certificate(hub, rsa.generate_private_key(65537, 2048).public_key(), [_server_use()])
    odd_kind = _certificate(hub, ed25519.Ed25519PrivateKey.generate().public_key(), [_server_use()])
    pems = [pki.certificate_to_pem(each) for each in (hub.authority, node, plain, other_kind, odd_kind)]
    return [*pems, b"", b"\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]


def _server_use() -> x509.ExtensionType:
    return x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])


def _certificate(hub: HostileHub, key: Any, extensions: list[x509.ExtensionType]) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")]))
        .issuer_name(hub.authority.subject)
        .public_key(key)
        .serial_number(1)
        .not_valid_before(datetime.now(UTC))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(hub.authority_key, hashes.SHA384())


def test_receipts_under_odd_certificates_are_not_kept_and_the_link_lives(tmp_path: Path) -> None:
    done = threading.Event()

    def says(said: Iterator[pb.FromNode]) -> Iterator[bytes]:
        stated = checkpoint(said)
        receipt = Receipt(site="a", count=stated.count, hash=stated.hash, at=stated.at, rounds=0, head="0" * 64)
        for certificate in odd_certificates(hub):
            yield receipt_bytes(hub, receipt, certificate)
        yield command(pb.WAKE)
        done.set()
        for _ in said:
            pass

    heard: list[str] = []
    hub = HostileHub(tmp_path, says)
    Chain(hub.site.sent).append({"what": "report", "kind": "train.round"})
    with linked(hub, heard):
        assert done.wait(20)
        until(lambda: heard == ["wake"])
        assert hub.connections == 1
    assert not hub.site.checkpoints.exists()


def test_a_site_cannot_write_the_hubs_receipts_itself(tmp_path: Path) -> None:
    """Its certificate is of the same authority, but a node's."""
    hub = HostileHub(tmp_path, lambda said: iter(()))
    hub.close()
    key = pki.read_key(hub.site.key)
    forged = Receipt(site="a", count=1, hash="f" * 64, at="2026-01-01T00:00:00+00:00", rounds=7, head="e" * 64)
    said = pb.Receipt(
        **forged.model_dump(exclude={"site"}),
        signature=pki.signed(key, forged.statement()),
        certificate=hub.site.certificate.read_bytes(),
    )
    assert not keep_receipt(hub.site, said)
    line = {"receipt": forged.model_dump(), "signature": said.signature.hex(), "certificate": said.certificate.decode()}
    (tmp_path / "receipts.jsonl").write_text(_json(line))
    with pytest.raises(Problem, match="does not bear this hub's signature"):
        check_receipts(Ledger(tmp_path / "ledger.sqlite"), hub.site.ca, tmp_path / "receipts.jsonl")
    for odd in (b"\xff\n", b"[]\n", b"{}\n", b'{"receipt": 1}\n', _json({**line, "certificate": 5}).encode()):
        (tmp_path / "receipts.jsonl").write_bytes(odd)
        with pytest.raises(Problem):
            check_receipts(Ledger(tmp_path / "ledger.sqlite"), hub.site.ca, tmp_path / "receipts.jsonl")


def _json(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"


# --- certificates


def foreign_certificates(hub: HostileHub) -> list[bytes]:
    own = pki.read_key(hub.site.key).public_key()
    other_key, other = pki.new_authority("another")
    return [
        pki.certificate_to_pem(pki.new_node_certificate("a", own, timedelta(days=1), other_key, other)),
        pki.certificate_to_pem(hub.certify("b", own)),
        pki.certificate_to_pem(hub.certify("a", pki.new_key().public_key())),
        *odd_certificates(hub),
        hub.site.key.read_bytes(),
    ]


def test_a_renewal_with_a_foreign_certificate_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the way of a real renewal once, and each kind of certificate by itself."""
    asked = threading.Event()

    def renews(request: bytes) -> bytes:
        asked.set()
        data: bytes = pb.Certificate(certificate=foreign_certificates(hub)[2]).SerializeToString()
        return data

    def says(said: Iterator[pb.FromNode]) -> Iterator[bytes]:
        yield command(pb.WAKE)
        for _ in said:
            pass

    monkeypatch.setattr(pki, "half_life", lambda certificate: datetime.now(UTC))
    hub = HostileHub(tmp_path, says, renews)
    before = hub.site.certificate.read_bytes()
    with linked(hub) as link:
        assert asked.wait(20)
        until(lambda: link.connected)
        time.sleep(0.2)
        assert hub.connections == 1
    for wrong in foreign_certificates(hub):
        with pytest.raises(Problem, match="another key or name, or of another authority"):
            keep_certificate(hub.site, wrong)
    assert hub.site.certificate.read_bytes() == before


def test_a_rotation_answered_with_a_foreign_certificate_leaves_key_and_certificate(tmp_path: Path) -> None:
    given: list[bytes] = []

    def renews(request: bytes) -> bytes:
        data: bytes = pb.Certificate(certificate=given[-1]).SerializeToString()
        return data

    hub = HostileHub(tmp_path, lambda said: iter(()), renews)
    before = hub.site.key.read_bytes(), hub.site.certificate.read_bytes()
    for wrong in foreign_certificates(hub):
        given.append(wrong)
        with pytest.raises(Problem, match="another key or name, or of another authority"):
            rotate_key(hub.site)
    hub.close()
    assert (hub.site.key.read_bytes(), hub.site.certificate.read_bytes()) == before


# --- orders


@dataclass
class Scripted:
    """In the place of the link: orders as they come, replies as they go."""

    orders: list[Message]
    stop: threading.Event
    replies: list[Message] = field(default_factory=list)

    def connect(self, stop: threading.Event) -> bool:
        return True

    def receive(self, announced: Callable[[], None]) -> Message | None:
        if not self.orders:
            self.stop.set()
            return None
        announced()
        return self.orders.pop(0)

    def reply(self, message: Message, seconds_worked: float) -> bool:
        self.replies.append(message)
        return True


def test_orders_of_any_number_are_answered_while_the_control_plane_tells_of_them(tmp_path: Path) -> None:
    """A round that the control plane's numbers cannot hold once ended the gate before it had answered."""
    bench = Bench(tmp_path)
    orders: list[Order] = [replace(TRAIN, round=number) for number in (2**31 - 1, 2**32, 2**40, 2**70, -1)]
    stop = threading.Event()
    script: Any = Scripted([*map(order_message, orders[:4]), order_message(TRAIN)], stop)
    link = ControlLink(bench.site, "127.0.0.1:1", bench.gate.sent, cancel=lambda: None, wake=lambda: None)
    Orders(script, bench.gate, link, threading.Event()).answer_all(stop)
    codes = [reply.error.reason if reply.has_error() else "" for reply in script.replies]
    assert codes == [Code.POLICY, *[Code.MALFORMED_ORDER] * 3, ""]
    assert [line["what"] for line in bench.lines()] == ["refusal"] * 4 + ["report"]


def test_a_flood_of_orders_is_a_line_each_and_no_work(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for number in range(300):
        assert bench.code(replace(TRAIN, study=f"{number:064x}")) is Code.STUDY_NOT_APPROVED
    assert len(bench.lines()) == 300
    assert bench.trainer.trained == []


# --- Flower's side and the first contact, below all protocol


class Answering:
    """An HTTPS server on loopback that gives every question the same answer."""

    def __init__(self, folder: Path, body: bytes, *, status: int = 200, forever: bool = False) -> None:
        self.authority, self.asked = Authority.create(), 0
        certificate, key = self.authority.server()
        for name, pem in (("server.pem", certificate), ("server.key", key)):
            (folder / name).write_bytes(pem)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.asked += 1
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(1 << 40 if forever else len(body)))
                self.end_headers()
                while forever and not outer.ended.is_set():
                    self.wfile.write(body)
                self.wfile.write(body)

            do_GET = do_POST  # noqa: N815  the standard library's name

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True  # the gate hung up

        self.ended = threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


def fleet_answers() -> list[tuple[str, bytes]]:
    deep = ObjectTree(object_id="x")
    for _ in range(90):
        deep = ObjectTree(object_id="x", children=[deep])
    head = ProtoMessage(metadata=ProtoMetadata(message_id="m", message_type="train.round"))
    long = ProtoMessage(metadata=ProtoMetadata(message_type="x" * 100_000))
    odd = ProtoMessage(
        metadata=ProtoMetadata(created_at=float("nan"), ttl=-1.0, message_id="../../x", message_type="train")
    )
    return [
        ("no protobuf", b"\xff" * 100),
        ("cut", b"\x0a\x7f"),
        ("a message without its tree", PullMessagesResponse(messages_list=[head]).SerializeToString()),
        ("deep", PullMessagesResponse(messages_list=[head], message_object_trees=[deep]).SerializeToString()),
        ("odd", PullMessagesResponse(messages_list=[odd], message_object_trees=[ObjectTree()]).SerializeToString()),
        ("a type", PullMessagesResponse(messages_list=[long], message_object_trees=[ObjectTree()]).SerializeToString()),
        ("a page", b"<html>Please log in</html>"),
    ]


@pytest.mark.parametrize(("name", "body"), fleet_answers(), ids=[name for name, _ in fleet_answers()])
def test_rubbish_in_place_of_orders_is_no_order_and_no_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: bytes
) -> None:
    monkeypatch.setattr("polyward_client.gate.fleet.UPLOAD_SECONDS", 0.3)
    hub = Answering(tmp_path, body)
    link = FleetLink(hub.address, hub.authority.pem, pki.new_key(), heartbeat_seconds=0.5)
    link._online.set()  # as after a sound beginning
    try:
        assert link.receive() is None
        assert hub.asked
    finally:
        link.close()
        hub.close()


def invitation_to(address: str) -> Invitation:
    return Invitation(site="a", address=address, control=address, authority="0" * 64, token="x" * 43, expires=2**40)


def test_an_answer_without_end_at_the_first_contact_is_not_read_to_its_end(tmp_path: Path) -> None:
    """The hub is not known yet: anybody on the way may answer."""
    hub = Answering(tmp_path, bytes(1 << 16), forever=True)
    began = time.monotonic()
    try:
        with pytest.raises(Problem, match="answered something that is no hub's answer"):
            fetch_authority(invitation_to(hub.address))
    finally:
        hub.close()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"<html>", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----"]
)
def test_an_answer_that_is_no_certificate_is_another_hub(tmp_path: Path, body: bytes) -> None:
    hub = Answering(tmp_path, body)
    try:
        with pytest.raises(Problem, match="is not the hub that the invitation speaks of"):
            fetch_authority(invitation_to(hub.address))
    finally:
        hub.close()
