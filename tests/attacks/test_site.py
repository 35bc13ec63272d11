"""A site in an attacker's hands, with a sound certificate, and strangers without one, against a real hub."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from polyward_client.site import Site
from polyward_server.commands import order, order_state
from polyward_server.contacts import read_contacts
from polyward_server.control import service
from polyward_server.reception import AUTHORITY, ENROLMENT
from polyward_server.records import Member
from polyward_server.statements import read_statements
from polyward_server.told import read_spans
from polyward_shared import pki
from polyward_shared.checkpoints import Checkpoint
from polyward_shared.pki import read_request
from polyward_shared.protos import CONNECT, RENEW, SERVICE
from polyward_shared.protos import control_pb2 as pb
from tests.support.real_hub import RealHub, real_hub, until
from tests.support.toy_trainer import toy_study

NAME = "Smith^John"
STUDY = toy_study()
DIGEST = STUDY.digest()
HELLO = pb.FromNode(hello=pb.Hello(protocol=1, software="test 1.0"))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    with real_hub(tmp_path_factory.mktemp("attacked")) as made:
        made.ledger.queue(STUDY)
        made.ledger.set_state(DIGEST, "stopped")  # nobody is to run it here
        yield made


@pytest.fixture(scope="module")
def bad(hub: RealHub, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return hub.enrolled("bad", tmp_path_factory.mktemp("bad"))


@pytest.fixture(autouse=True)
def _unharmed(hub: RealHub) -> Iterator[None]:
    """After each attack the same processes answer, and nothing of it is a traceback in the log."""
    yield
    with httpx.Client(verify=_trust(hub)) as client:
        assert client.get(f"{_public(hub)}{AUTHORITY}").content == hub.hub.ca.read_bytes()
    log = (hub.folder / "hub.log").read_text()
    assert "Traceback" not in log, log[-3000:]
    assert NAME not in log
    assert hub.process is not None
    assert hub.process.poll() is None


def said(hub: RealHub, site: Site, messages: list[bytes], *, seconds: float = 10.0) -> grpc.StatusCode | None:
    """How a connection ends on which these bytes are said; None when it is still open after all were heard."""
    with _channel(hub, site) as channel:
        stream = channel.stream_stream(f"/{SERVICE}/{CONNECT}", None, None)
        ended = threading.Event()

        def speak() -> Iterator[bytes]:
            yield from messages
            ended.wait(1.0)

        call = stream(speak(), timeout=seconds)
        began = time.monotonic()
        with suppress(grpc.RpcError):
            list(call)
        ended.set()
        code = call.code()
        return None if code is grpc.StatusCode.OK and time.monotonic() - began >= 1.0 else code


def ends(hub: RealHub, site: Site, *messages: pb.FromNode) -> bool:
    """Whether the hub ends a connection, after a sound greeting, on which this is said."""
    return said(hub, site, [each.SerializeToString() for each in (HELLO, *messages)]) is grpc.StatusCode.OK


def test_what_is_said_before_the_greeting_ends_the_connection(hub: RealHub, bad: Site) -> None:
    assert said(hub, bad, [HELLO.SerializeToString()]) is None
    for first in (
        pb.FromNode(status=pb.Status()),
        pb.FromNode(withdrawal=pb.Withdrawal(study=DIGEST)),
        pb.FromNode(answer=pb.Answer(id=1, obeyed=True)),
        pb.FromNode(checkpoint=pb.Checkpoint(count=1)),
        pb.FromNode(),
        pb.FromNode(hello=pb.Hello(protocol=2, software="test 1.0")),
        pb.FromNode(hello=pb.Hello(protocol=1, software=f"patient {NAME}")),
        pb.FromNode(hello=pb.Hello(protocol=1, software="test 1.0\n")),
        pb.FromNode(hello=pb.Hello(protocol=1)),
    ):
        assert said(hub, bad, [first.SerializeToString()]) is grpc.StatusCode.OK, first


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\x7f", b"\x12" * 1000])
def test_bytes_that_are_no_message_end_the_connection(hub: RealHub, bad: Site, data: bytes) -> None:
    assert said(hub, bad, [HELLO.SerializeToString(), data]) is not None


def test_a_message_beyond_the_limit_ends_the_connection(hub: RealHub, bad: Site) -> None:
    large = pb.FromNode(withdrawal=pb.Withdrawal(study="x" * (65 << 10))).SerializeToString()
    assert said(hub, bad, [HELLO.SerializeToString(), large]) is not None


def gpu(**changes: object) -> pb.Status:
    return pb.Status(machine=pb.Machine(gpus=[pb.Gpu(**changes)]))  # type: ignore[arg-type]


STATUSES = [
    pb.Status(machine=pb.Machine(cpu=float("nan"))),
    pb.Status(machine=pb.Machine(cpu=float("inf"))),
    pb.Status(machine=pb.Machine(cpu=-0.5)),
    pb.Status(machine=pb.Machine(cpu=1e30)),
    gpu(busy=float("nan")),
    gpu(busy=7.0),
    gpu(model=f"{NAME}\x1b[2J"),
    gpu(model="x" * 61),
    gpu(model="A100\n"),
    pb.Status(machine=pb.Machine(gpus=[pb.Gpu(model="A100")] * 1000)),
    pb.Status(work=pb.Work(study=NAME)),
    pb.Status(work=pb.Work(study="../../" + DIGEST)),
    pb.Status(refusals={NAME: 1}),
    pb.Status(state=77),  # type: ignore[arg-type]
    pb.Status(work=pb.Work(phase=-1)),  # type: ignore[arg-type]
]


def test_a_status_of_what_is_no_number_or_word_is_not_kept(hub: RealHub, bad: Site) -> None:
    sound = pb.Status(state=pb.IDLE, machine=pb.Machine(cpu=0.5, memory_used=2**64 - 1, disk_free=2**64 - 1))
    assert not ends(hub, bad, pb.FromNode(status=sound))
    before = dict(read_contacts(hub.ledger)["bad"].status)
    for status in STATUSES:
        assert ends(hub, bad, pb.FromNode(status=status)), status
        assert dict(read_contacts(hub.ledger)["bad"].status) in ({}, before), "a new connection has told of nothing yet"


def checkpoint(site: Site, **changes: object) -> pb.FromNode:
    """A statement, signed as it stands before the changes."""
    fields: dict[str, object] = {"count": 1, "hash": "a" * 64, "at": "2026-01-01T00:00:00+00:00"}
    fields |= {key: value for key, value in changes.items() if key != "signature"}
    stated = Checkpoint.model_validate({"site": site.name, **fields})
    signature = changes.get("signature", pki.signed(pki.read_key(site.key), stated.statement()))
    return pb.FromNode(checkpoint=pb.Checkpoint(**fields, signature=signature))  # type: ignore[arg-type]


def test_checkpoints_that_are_signed_wrongly_or_hold_anything_else_are_not_kept(hub: RealHub, bad: Site) -> None:
    other = Checkpoint(site="good", count=1, hash="a" * 64, at="2026-01-01T00:00:00+00:00")
    stranger = pki.signed(pki.new_key(), Checkpoint(**{**other.model_dump(), "site": "bad"}).statement())
    as_another = pki.signed(pki.read_key(bad.key), other.statement())
    for forged in (
        checkpoint(bad, signature=b""),
        checkpoint(bad, signature=b"\x30" * 100),
        checkpoint(bad, signature=stranger),
        checkpoint(bad, signature=as_another),
        checkpoint(bad, count=2**63),
        checkpoint(bad, count=2**64 - 1),
        checkpoint(bad, hash=""),
        checkpoint(bad, hash="A" * 64),
        checkpoint(bad, at=""),
        checkpoint(bad, at=NAME),
        checkpoint(bad, at="2026\x1b[2J"),
    ):
        assert ends(hub, bad, forged), forged
    assert [receipt for receipt, _, _ in read_statements(hub.ledger) if receipt.site == "bad"] == []
    assert not ends(hub, bad, checkpoint(bad))
    assert [receipt.count for receipt, _, _ in read_statements(hub.ledger) if receipt.site == "bad"] == [1]


def test_a_site_withdraws_itself_and_nobody_else(hub: RealHub, bad: Site) -> None:
    hub.ledger.join(DIGEST, Member("good", 10, {"mask": 10}, "{}", "", agrees=True))
    events = len(hub.ledger.events_after(0, DIGEST))
    for study in (DIGEST, "f" * 64, "", NAME, "' OR 1=1 --"):
        assert not ends(hub, bad, pb.FromNode(withdrawal=pb.Withdrawal(study=study)))
    assert hub.ledger.members(DIGEST)["good"].agrees
    assert len(hub.ledger.events_after(0, DIGEST)) == events, "it is no member, so it left nothing"


def timings(**changes: object) -> pb.FromNode:
    """A sound course of the study's first round, but for the changes."""
    spans = [pb.Span(phase=pb.TRAINING, start_ms=10, ms=20)]
    fields = {"study": DIGEST, "round": 1, "age_ms": 30, "spans": spans} | changes
    return pb.FromNode(timings=pb.Timings(**fields))  # type: ignore[arg-type]


def test_a_course_that_cannot_have_been_is_not_kept(hub: RealHub, bad: Site) -> None:
    for nonsense in (
        timings(study=NAME),
        timings(round=STUDY.rounds + 1),
        timings(age_ms=29),
        timings(age_ms=2**32 - 1),
        timings(spans=[pb.Span()] * 33),
        timings(spans=[pb.Span(phase=77)]),  # type: ignore[arg-type]
        timings(spans=[pb.Span(ms=2**32 - 1)]),
    ):
        assert ends(hub, bad, nonsense), nonsense
    assert read_spans(hub.ledger, DIGEST) == {}
    assert not ends(hub, bad, timings(study="f" * 64), timings())
    until(lambda: read_spans(hub.ledger, DIGEST))
    [(site, _)] = read_spans(hub.ledger, DIGEST)[1].items()
    assert site == "bad", "whose certificate it is"


def test_approvals_are_digests_and_of_known_studies(hub: RealHub, bad: Site) -> None:
    for nonsense in ([NAME], [""], [DIGEST.upper()], [f"{number:064x}" for number in range(257)]):
        assert ends(hub, bad, pb.FromNode(approvals=pb.Approvals(studies=nonsense))), nonsense
    assert hub.ledger.approvals(DIGEST) == {}
    assert not ends(hub, bad, pb.FromNode(approvals=pb.Approvals(studies=[DIGEST, "f" * 64])))
    until(lambda: set(hub.ledger.approvals(DIGEST)) == {"bad"})
    assert hub.ledger.approvals("f" * 64) == {}
    time.sleep(service.APPROVALS_SECONDS)  # a site is not heard more often
    assert not ends(hub, bad, pb.FromNode(approvals=pb.Approvals()))
    until(lambda: hub.ledger.approvals(DIGEST) == {})


def test_another_sites_commands_are_not_answered_for_it(hub: RealHub, bad: Site) -> None:
    number = order(hub.ledger, "good", "cancel", DIGEST)
    own = pb.FromNode(answer=pb.Answer(id=number, obeyed=True))
    assert not ends(hub, bad, own, pb.FromNode(answer=pb.Answer(id=2**63 - 1)))
    assert order_state(hub.ledger, number) == "waiting"
    assert ends(hub, bad, pb.FromNode(answer=pb.Answer(id=2**64 - 1)))


def test_a_flood_of_messages_ends_the_connection(hub: RealHub, bad: Site) -> None:
    flood = [pb.FromNode(withdrawal=pb.Withdrawal(study="f" * 64))] * (2 * service.MESSAGES_AT_ONCE)
    assert not ends(hub, bad, *flood[: service.MESSAGES_AT_ONCE // 2])
    assert ends(hub, bad, *flood)


def test_a_thousand_connections_of_one_site_keep_nobody_out(hub: RealHub, bad: Site, tmp_path: Path) -> None:
    """Each takes the place of the one before."""
    good = hub.enrolled("good", tmp_path)
    with _channel(hub, bad) as channel:
        stream = channel.stream_stream(f"/{SERVICE}/{CONNECT}", None, None)
        ended = threading.Event()

        def speak() -> Iterator[bytes]:
            yield HELLO.SerializeToString()
            ended.wait(30)

        def connect(_: int) -> None:
            call = stream(speak(), timeout=30)
            with suppress(grpc.RpcError):
                list(call)

        with ThreadPoolExecutor(20) as pool:
            storm = [pool.submit(connect, number) for number in range(1000)]
            with hub.linked(good):
                assert hub.is_here("good")
            until(lambda: sum(each.done() for each in storm) >= 950, 60)
            ended.set()
    until(lambda: not hub.is_here("bad"))


def test_a_certificate_is_renewed_in_the_callers_own_name_for_a_good_key(hub: RealHub, tmp_path: Path) -> None:
    site, other = hub.enrolled("renews", tmp_path), hub.enrolled("other", tmp_path)
    key, foreign = pki.read_key(site.key), pki.read_key(other.key)
    good = pki.new_request("renews", key)
    asked = [b"", b"\xff", good[:-40], good * 200, pki.new_request("other", key), pki.new_request("renews", foreign)]
    asked += [pem for _, pem in odd_requests("renews")]
    with _channel(hub, site) as channel:
        renew = channel.unary_unary(
            f"/{SERVICE}/{RENEW}", pb.CertificateRequest.SerializeToString, pb.Certificate.FromString
        )
        for request in asked:
            with pytest.raises(grpc.RpcError) as refused:
                renew(pb.CertificateRequest(request=request), timeout=10)
            assert refused.value.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert renew(pb.CertificateRequest(request=good), timeout=10).certificate == site.certificate.read_bytes()
        # a key that was given up, such as a stolen one, does not come back
        new = pki.new_key()
        renewed = renew(pb.CertificateRequest(request=pki.new_request("renews", new)), timeout=10).certificate
        site.certificate.write_bytes(renewed)
        site.key.write_bytes(pki.key_to_pem(new))
    with _channel(hub, site) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(f"/{SERVICE}/{RENEW}", None, None)(
            pb.CertificateRequest(request=good).SerializeToString(), timeout=10
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# --- strangers at the reception


def odd_requests(name: str) -> list[tuple[str, bytes]]:
    """Requests that are well formed, each signed by its own key, and none of which is one of ours."""
    curve = ec.generate_private_key(ec.SECP384R1())
    plain = x509.CertificateSigningRequestBuilder().subject_name(_subject(name))
    many = [x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name}{number}") for number in range(20)]
    two = plain.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    two = two.add_extension(x509.KeyUsage(*([False] * 9)), critical=True)
    return [
        ("RSA", _signed(plain, rsa.generate_private_key(65537, 2048))),
        ("a weak curve", _signed(plain, ec.generate_private_key(ec.SECP192R1()))),
        ("another curve", _signed(plain, ec.generate_private_key(ec.SECP256R1()))),
        ("Ed25519", plain.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(_PEM)),
        ("many names", _signed(x509.CertificateSigningRequestBuilder().subject_name(x509.Name(many)), curve)),
        ("no name", _signed(x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])), curve)),
        ("an authority", _signed(two, curve)),
        ("one extension twice", _twice(_signed(two, curve), curve)),
    ]


_PEM = serialization.Encoding.PEM


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _signed(
    builder: x509.CertificateSigningRequestBuilder, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> bytes:
    return builder.sign(key, hashes.SHA384()).public_bytes(_PEM)


def _twice(pem: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The request with its second extension under the name of the first, signed anew: no library writes this."""
    request = x509.load_pem_x509_csr(pem)
    content = request.tbs_certrequest_bytes.replace(bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d13"))
    algorithm = bytes.fromhex("300a06082a8648ce3d040303")  # ECDSA with SHA-384
    signature = key.sign(content, ec.ECDSA(hashes.SHA384()))
    bits = b"\x03" + _length(len(signature) + 1) + b"\x00" + signature
    whole = content + algorithm + bits
    der = b"\x30" + _length(len(whole)) + whole
    return x509.load_der_x509_csr(der).public_bytes(_PEM)


def _length(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([0x81, size]) if size < 256 else b"\x82" + size.to_bytes(2, "big")


@pytest.mark.parametrize(("kind", "pem"), odd_requests("odd"), ids=[kind for kind, _ in odd_requests("odd")])
def test_odd_requests_are_malformed(hub: RealHub, kind: str, pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected a request with one common name|not a certificate request"):
        read_request(pem)
    token = hub.invite("odd").token
    with httpx.Client(verify=_trust(hub)) as client:
        answer = client.post(f"{_public(hub)}{ENROLMENT}", json={"token": token, "request": pem.decode()})
    assert (answer.status_code, answer.json()) == (400, {"refused": "malformed"})


BODIES = [
    b'{"token": "\\ud800", "request": "x"}',
    b'{"token": "x", "request": "\\ud800"}',
    b'{"token": null, "request": {}}',
    b'{"token": "x", "request": "y", "site": "good"}',
    b"[" * 8000,
    b"\xff\xfe",
    b'{"token": "' + b"x" * 101 + b'", "request": "y"}',
    b"1" * 8000,
]


def test_what_is_no_request_is_malformed(hub: RealHub) -> None:
    with httpx.Client(verify=_trust(hub)) as client:
        for body in BODIES:
            answer = client.post(f"{_public(hub)}{ENROLMENT}", content=body)
            assert (answer.status_code, answer.json()) == (400, {"refused": "malformed"}), body[:40]
        assert client.post(f"{_public(hub)}{ENROLMENT}", content=bytes(10 << 20)).status_code == 413


def test_beside_a_request_stands_nothing_that_a_database_cannot_keep(hub: RealHub) -> None:
    odd = pki.new_request("beside", pki.new_key()).decode() + "\0"
    assert read_request(odd.encode())[0] == "beside", "the library reads past it"
    token = hub.invite("beside").token
    with httpx.Client(verify=_trust(hub)) as client:
        answer = client.post(f"{_public(hub)}{ENROLMENT}", json={"token": token, "request": odd})
    assert (answer.status_code, answer.json()) == (400, {"refused": "malformed"})


def test_a_flood_of_guessed_tokens_finds_nothing_and_keeps_nobody_out(hub: RealHub, tmp_path: Path) -> None:
    request = pki.new_request("flood", pki.new_key()).decode()

    def guess(number: int) -> int:
        with httpx.Client(verify=trust) as client:
            body = {"token": f"{number:043d}", "request": request}
            return client.post(f"{_public(hub)}{ENROLMENT}", json=body, timeout=60).status_code

    trust = _trust(hub)
    with ThreadPoolExecutor(20) as pool:
        storm = [pool.submit(guess, number) for number in range(200)]
        began = time.monotonic()
        hub.enrolled("between", tmp_path)
        assert time.monotonic() - began < 10
        assert {each.result() for each in storm} == {403}
    assert not [asked for asked in hub.roster.waiting(approved=True) if asked.site == "flood"]


@pytest.mark.slow
def test_who_sends_a_byte_now_and_then_is_not_waited_for(hub: RealHub) -> None:
    """A hundred slow callers hold up nobody, and a request that never ends is ended by the hub."""
    context, slow = _trust(hub), []
    for _ in range(100):
        caller = context.wrap_socket(
            socket.create_connection(("127.0.0.1", hub.hub.file.port)), server_hostname="127.0.0.1"
        )
        caller.sendall(f"POST {ENROLMENT} HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{{".encode())
        slow.append(caller)
    began = time.monotonic()
    with httpx.Client(verify=context) as client:
        assert client.get(f"{_public(hub)}{AUTHORITY}").status_code == 200
    assert time.monotonic() - began < 3
    first, answer = slow[0], b""
    first.settimeout(0.5)
    while time.monotonic() - began < 40 and not answer:
        with suppress(OSError):
            first.sendall(b" ")
            answer = first.recv(100)
    assert answer.startswith(b"HTTP/1.1 408")
    assert 15 < time.monotonic() - began < 30
    for caller in slow:
        caller.close()


def _trust(hub: RealHub) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(hub.hub.ca))


def _public(hub: RealHub) -> str:
    return f"https://127.0.0.1:{hub.hub.file.port}"


def _channel(hub: RealHub, site: Site) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        hub.hub.ca.read_bytes(), site.key.read_bytes(), site.certificate.read_bytes()
    )
    return grpc.secure_channel(f"127.0.0.1:{hub.hub.file.control_port}", credentials)
