"""Every place at which polyward reads what somebody else wrote, with inputs for it and how it may refuse them."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from flwr.app import ConfigRecord, Message
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata as ProtoMetadata
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from google.protobuf.message import DecodeError
from hypothesis import strategies as st

from polyward_client.approvals import read_approval
from polyward_client.decisions import read_decisions
from polyward_client.enrolment import fitting_certificate
from polyward_client.gate.control import ControlLink
from polyward_client.gate.receipts import read_receipts
from polyward_client.port.wires import reply_from_bytes
from polyward_client.site import read_site
from polyward_client.trainer.manifest import read_manifest
from polyward_server.control.connections import Connection
from polyward_server.control.service import Service
from polyward_server.enrolment import Authority, invite
from polyward_server.flower.door import Door, check_reply
from polyward_server.flower.door import Refused as Turned
from polyward_server.history import check_receipts
from polyward_server.hub import init
from polyward_server.ledger import Ledger
from polyward_server.reception import ENROLMENT, Reception
from polyward_server.roster import Roster
from polyward_shared import pki
from polyward_shared.chain import Chain, read_chain
from polyward_shared.codec import decode, encode
from polyward_shared.inflate import Misshapen, inflate
from polyward_shared.invitation import read_invitation, written
from polyward_shared.messages import Kind, Metric, Report, Stage
from polyward_shared.problems import Problem, Refused
from polyward_shared.protos import control_pb2 as pb
from polyward_shared.reading import validated
from polyward_shared.schema import Schema
from polyward_shared.states import read_state, state_in, state_parts
from polyward_shared.study import Study, read_study
from polyward_shared.wire import named_work, read_order, read_report
from tests.attacks.mutations import VALUES, changed, mutated
from tests.client.gate.test_gate import BASE, SCHEMA, STUDY, TRAIN
from tests.shared.test_study import PLAIN
from tests.support.images import make_study, write_site
from tests.support.messages import order_message, reply
from tests.support.toy_trainer import toy_site

RICH: dict[str, Any] = {
    **PLAIN,
    "encoder": {"filters": 8, "blocks": [1, 1]},
    "training": {"schedule": "fedrep", "epochs": 2, "batch": 4},
    "participation": {"quorum": 2},
    "evaluation": {"splits": ["val", "test"]},
    "wire": {"codec": "bfloat16"},
}
SITE: dict[str, Any] = {
    "name": "a",
    "tasks": ["mask", "grade"],
    "state": "state",
    "data": {"root": "data", "manifest": "m.csv", "rows": {"site": "a"}, "columns": {"mask": "m"}},
    "device": {"kind": "cpu", "threads": 2},
    "policy": {"minimum_count": 5, "hours": ["22:00-06:00"], "commands": ["wake"]},
    "vault": {"key": "k"},
    "hub": {"address": "hub:8443", "control": "hub:8444", "ca": "ca.pem"},
}
REPORT = Report(
    kind=Kind.TRAIN,
    study=STUDY.digest(),
    round=1,
    attempt=1,
    state_digest="a" * 64,
    samples=8,
    counts={"mask": 8},
    metrics=(Metric("mask", "val", Stage.TRAINED, "dice", 0.5, 8, 0.4, 0.6),),
    kept={"mask": "alone"},
    first={"encoder": "b" * 64},
    payload=encode("float32", BASE, None),
)


@dataclass(frozen=True)
class Parser:
    """`parse` returns something, or raises one of `refusals`; a value of `REFUSED` is a refusal too."""

    name: str
    inputs: st.SearchStrategy[Any]
    parse: Callable[[Any], object]
    refusals: tuple[type[Exception], ...]


REFUSED = object()


@contextmanager
def all_parsers(folder: Path) -> Iterator[list[Parser]]:
    """Those of both sides, with real files, keys and a real ledger below `folder`."""
    logging.disable()  # a line for each of thousands of refusals tells nothing
    hub = init(folder / "hub", name="h", host="127.0.0.1", port=1, control_port=2, certificate_days=14.0, also=[])
    ledger = Ledger(hub.ledger)
    try:
        yield [*_files(folder), *_messages(), *_of_the_hub(folder, hub, ledger), *_of_the_gate(folder)]
    finally:
        ledger.close()
        logging.disable(logging.NOTSET)


def _file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    path.parent.mkdir(parents=True, exist_ok=True)

    def parse(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return parse


# --- files that people or the other process write


def _files(folder: Path) -> Iterator[Parser]:
    study_bytes = [tomli_w.dumps(table).encode() for table in (PLAIN, RICH)]
    yield Parser("study, text", mutated(study_bytes), _file(folder / "study.toml", _study), (Problem,))
    yield Parser("study, values", changed(PLAIN) | changed(RICH), _study_of, (Problem,))
    site_bytes = [tomli_w.dumps(SITE).encode()]
    yield Parser("site, text", mutated(site_bytes), _file(folder / "site.toml", _site), (Problem,))
    yield Parser("site, values", changed(SITE), _file_of_site(folder / "sites" / "site.toml"), (Problem,))
    made = write_site(folder / "images")
    table = made.manifest.read_bytes()
    study = make_study()
    manifest = _file(made.manifest, lambda _: read_manifest(made, study, made.file.tasks))
    yield Parser("manifest", mutated([table]), manifest, (Problem,))
    chain = Chain(folder / "sent.jsonl")
    for number in range(3):
        chain.append({"what": "report", "round": number})
    lines = chain.path.read_bytes()
    yield Parser("chain", mutated([lines]), _file(folder / "chain.jsonl", lambda p: list(read_chain(p))), (Problem,))
    state = b"".join(state_parts(SCHEMA.views(BASE), {"study": "s"}))
    yield Parser("state, file", mutated([state]), _file(folder / "a.safetensors", read_state), (Problem,))
    yield Parser("state, bytes", mutated([state]), lambda data: state_in(memoryview(data), "x"), (Problem,))
    yield Parser("schema", mutated([SCHEMA.to_json().encode()]).map(_text), Schema.from_json, (ValueError,))
    yield Parser("approval", *_approval(folder / "approved"))
    yield Parser("decisions", *_decisions(folder / "decided"))


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _study(path: Path) -> object:
    return _meant(read_study(path))


def _study_of(table: dict[str, Any]) -> object:
    return _meant(validated(table, Study, where="study"))


def _meant(study: Study) -> object:
    """What every user of a study asks of it."""
    return study.digest(), study.groups(tuple(study.tasks)), Study.model_validate_json(study.canonical(), strict=True)


def _site(path: Path) -> object:
    site = read_site(path)
    return site.manifest.exists(), site.ca.exists(), site.state.exists()


def _file_of_site(path: Path) -> Callable[[dict[str, Any]], object]:
    parse = _file(path, _site)

    def written_out(table: dict[str, Any]) -> object:
        try:
            text = tomli_w.dumps(table)
            tomllib.loads(text)
        except (TypeError, ValueError):
            return REFUSED  # what TOML cannot say
        return parse(text.encode())

    return written_out


def _approval(folder: Path) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], object], tuple[type[Exception], ...]]:
    site = toy_site(folder, "a", STUDY, ("mask",))
    path = site.approved / f"{STUDY.digest()}.json"
    sample = path.read_bytes()
    return mutated([sample]), _file(path, lambda _: read_approval(site.approved, STUDY.digest())), (Problem,)


def _decisions(folder: Path) -> tuple[st.SearchStrategy[bytes], Callable[[bytes], object], tuple[type[Exception], ...]]:
    site = toy_site(folder, "a", STUDY, ("mask",))
    path = site.approved / "decisions.jsonl"
    return mutated([path.read_bytes()]), _file(path, lambda _: read_decisions(site.approved)), (Problem,)


# --- orders and reports


def _messages() -> Iterator[Parser]:
    keys = ["protocol", "study", "round", "attempt", "state", "base", "codec", "want-state", "samples", "seconds", "x"]
    records = ["order", "report", "first", "kept", "counts", "metrics"]
    values = VALUES | st.binary(max_size=5) | st.sampled_from(["a" * 64, True, 2**40, float("nan")])
    change = st.tuples(
        st.sampled_from(records), st.sampled_from([*keys, "mask", "mask/val/trained/dice/value"]), values
    )
    changes = st.lists(change, min_size=1, max_size=3)
    yield Parser("order, records", changes, lambda c: read_order(_spoilt(order_message(TRAIN), c)), (Refused,))
    yield Parser("report, records", changes, lambda c: read_report(_spoilt(reply(REPORT), c)), (Refused,))
    for name, message, read in (
        ("order, objects", order_message(TRAIN), read_order),
        ("report, objects", reply(REPORT), read_report),
    ):
        objects = {key: each.deflate() for key, each in get_all_nested_objects(message).items()}
        chosen = st.sampled_from(sorted(objects))
        inputs = st.lists(
            st.tuples(chosen, chosen.flatmap(lambda key, all=objects: mutated([all[key]]))),  # type: ignore[misc]
            min_size=1,
            max_size=2,
        )
        yield Parser(name, inputs, _inflating(message, objects, read), (Misshapen, Refused))
    base = BASE.astype(np.float32)
    payload = st.binary(max_size=80) | mutated([encode("float32", BASE, None), encode("bfloat16", BASE + 1, base)])
    codec = st.sampled_from([("float32", None), ("bfloat16", None), ("bfloat16", base), ("float32", base)])
    yield Parser("codec", st.tuples(codec, payload), lambda i: decode(i[0][0], i[1], i[0][1]), (ValueError,))


def _spoilt(message: Message, changes: list[tuple[str, str, Any]]) -> Message:
    """Past Flower's own checks, as a hostile peer's objects may be."""
    for record, key, value in changes:
        if record not in message.content:
            message.content[record] = ConfigRecord()
        message.content[record]._data[key] = value  # type: ignore[union-attr]
    named_work(message)
    return message


def _inflating(
    message: Message, objects: dict[str, bytes], read: Callable[[Message], object]
) -> Callable[[list[tuple[str, bytes]]], object]:
    metadata = message.metadata
    metadata.__dict__["_message_id"] = message.object_id
    contents = {**objects, message.object_id: message.deflate()}

    def parse(changes: list[tuple[str, bytes]]) -> object:
        found = inflate(metadata, {**contents, **dict(changes)}, 1 << 20)
        named_work(found)
        return read(found)

    return parse


# --- what the hub hears


def _of_the_hub(folder: Path, hub: Any, ledger: Ledger) -> Iterator[Parser]:
    roster, authority = Roster(ledger), Authority(hub)
    invitation = invite(hub, roster, "a", hours=1.0, approved=True)
    key = pki.new_key()
    certificate = authority.certify("a", key.public_key())
    roster.issue("a", certificate)
    service = Service(hub, ledger, roster, authority)
    yield Parser(
        "invitation",
        mutated([written(invitation).encode()]).map(_text) | changed(invitation.model_dump()).map(_packed),
        _invited,
        (Problem,),
    )
    said = [
        pb.FromNode(hello=pb.Hello(protocol=1, software="test 1.0")),
        pb.FromNode(
            status=pb.Status(machine=pb.Machine(cpu=0.5, gpus=[pb.Gpu(model="A", busy=0.1)]), refusals={"data": 1})
        ),
        pb.FromNode(checkpoint=pb.Checkpoint(count=1, hash="a" * 64, at="2026-01-01", signature=b"0" * 90)),
        pb.FromNode(withdrawal=pb.Withdrawal(study="a" * 64)),
        pb.FromNode(answer=pb.Answer(id=1, obeyed=True)),
        pb.FromNode(approvals=pb.Approvals(studies=["a" * 64])),
        pb.FromNode(timings=pb.Timings(study="a" * 64, round=1, age_ms=9, spans=[pb.Span(phase=pb.SENDING, ms=5)])),
    ]
    samples = [message.SerializeToString() for message in said]

    def hear(data: bytes) -> object:
        connection = Connection("a", certificate.serial_number)
        service.hearing.hear(connection, said[0])
        return True if service.hearing.hear(connection, pb.FromNode.FromString(data)) else REFUSED

    yield Parser("control, hub", mutated(samples), hear, (DecodeError,))
    request = pki.new_request("a", key)
    yield Parser("request (PKCS#10)", mutated([request]) | _der(request), pki.read_request, (ValueError,))
    body = json.dumps({"token": invitation.token, "request": request.decode()}).encode()
    reception = Reception(_never, ledger=hub.ledger, authority=b"", private_port=3)
    yield Parser("reception", mutated([body]), lambda data: _status(reception.enrol(data)[0]), ())
    yield Parser("door", _requests(), _asked_at(Door(_served, private_port=3, secret=b"s" * 32, max_body=1 << 16)), ())
    yield Parser("door, replies", mutated([_push()]), check_reply, (Turned,))
    receipt = {"receipt": {"site": "a", "count": 1, "hash": "a" * 64, "at": "x", "rounds": 0, "head": "0" * 64}}
    line = json.dumps({**receipt, "signature": "00", "certificate": hub.certificate.read_text()}).encode() + b"\n"
    check = _file(folder / "receipts.jsonl", lambda path: check_receipts(ledger, hub.ca, path))
    yield Parser("receipts, hub", mutated([line]), check, (Problem,))
    kept = _file(folder / "kept.jsonl", lambda path: list(read_receipts(path)))
    yield Parser("receipts, site", mutated([line]), kept, (Problem,))


def _packed(table: dict[str, Any]) -> str:
    return "polyward1." + base64.urlsafe_b64encode(json.dumps(table).encode()).decode().rstrip("=")


def _invited(text: str) -> object:
    """Read, and used as an address, as enrolment does."""
    invitation = read_invitation(text)
    return written(invitation), httpx.URL(f"https://{invitation.address}"), httpx.URL(f"https://{invitation.control}")


def _der(pem: bytes) -> st.SearchStrategy[bytes]:
    """Mutations below the PEM armour."""
    der = x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER)
    head, tail = b"-----BEGIN CERTIFICATE REQUEST-----\n", b"\n-----END CERTIFICATE REQUEST-----\n"
    return mutated([der]).map(lambda data: head + base64.b64encode(data) + tail)


def _status(status: int) -> object:
    assert status in {200, 400, 403}
    return REFUSED if status != 200 else status


def _push() -> bytes:
    head = ProtoMessage(metadata=ProtoMetadata(src_node_id=5, reply_to_message_id="m"))
    tree = ObjectTree(object_id="x", children=[ObjectTree(object_id="y")])
    data: bytes = PushMessagesRequest(
        node=Node(node_id=5), messages_list=[head], message_object_trees=[tree]
    ).SerializeToString()
    return data


async def _never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError


async def _served(scope: Any, receive: Any, send: Any) -> None:
    """Behind the door; what comes so far was let in."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": (await receive())["body"]})


def _requests() -> st.SearchStrategy[dict[str, Any]]:
    paths = st.sampled_from(
        [
            "/v1/fleet/push-messages",
            "/v1/fleet/pull-object",
            "/v1/fleet/../control/x",
            "/v1/control/x",
            "/",
            "//",
            ENROLMENT,
        ]
    ) | st.text(st.characters(codec="utf-8"), max_size=30)
    length = st.sampled_from([b"0", b"5", b"-1", b"+5", b"", b"9" * 19, b"9" * 5000, b"1e3", b"\xb2", b" 7"])
    header = st.tuples(
        st.sampled_from([b"content-length", b"x-polyward-hub", b"host", b""]), length | st.binary(max_size=9)
    )
    return st.fixed_dictionaries(
        {
            "method": st.sampled_from(["POST", "GET", "PUT", "post", ""]),
            "path": paths,
            "server": st.sampled_from([("127.0.0.1", 1), ("127.0.0.1", 3), None, ("", 0)]),
            "headers": st.lists(header, max_size=3),
            "body": st.lists(mutated([_push()]), max_size=3),
        }
    )


def _asked_at(door: Door) -> Callable[[dict[str, Any]], object]:
    async def ask(given: dict[str, Any]) -> int:
        parts = [{"type": "http.request", "body": part, "more_body": True} for part in given["body"]]
        waiting = [*parts, {"type": "http.request", "body": b"", "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {key: value for key, value in given.items() if key != "body"}
        await door({"type": "http", **scope, "raw_path": given["path"].encode()}, receive, send)
        return int(sent[0]["status"])

    def parse(given: dict[str, Any]) -> object:
        status = asyncio.run(ask(given))
        assert status in {200, 400, 403, 404, 413}
        return REFUSED if status != 200 else status

    return parse


# --- what the gate hears


def _of_the_gate(folder: Path) -> Iterator[Parser]:
    key, (authority_key, authority) = pki.new_key(), pki.new_authority("x")
    site = toy_site(folder / "gate", "a", STUDY, ("mask",))
    site.ca.write_bytes(pki.certificate_to_pem(authority))
    pki.write_secret(site.key, pki.key_to_pem(key))
    link = ControlLink(site, "127.0.0.1:1", Chain(site.sent), cancel=lambda: None, wake=lambda: None)
    said = [
        pb.FromHub(command=pb.Command(id=1, order=pb.WAKE)),
        pb.FromHub(receipt=pb.Receipt(count=1, hash="a" * 64, at="x", head="0" * 64, signature=b"1", certificate=b"2")),
    ]

    def hear(data: bytes) -> object:
        link._hear(pb.FromHub.FromString(data))
        return data

    yield Parser("control, gate", mutated([each.SerializeToString() for each in said]), hear, (DecodeError,))
    pem = pki.certificate_to_pem(
        pki.new_node_certificate("a", key.public_key(), pki.AUTHORITY_LIFETIME, authority_key, authority)
    )
    yield Parser("certificate", mutated([pem]), lambda data: fitting_certificate(site, data, key), (Problem,))
    done = b'{"done":{"samples":8,"counts":{"mask":8},"metrics":[],"update":"u","seconds":0.1}}'
    yield Parser("port", mutated([done, b'{"progress":{"phase":"x"}}']), reply_from_bytes, (ValueError,))
