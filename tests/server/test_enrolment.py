"""Joining a real hub over real TLS: who gets in, and everybody who does not."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import grpc
import httpx
import pytest

from polyward_client.enrolment import Asking, enrol, keep_certificate, prepare
from polyward_client.gate.rotation import rotate_key
from polyward_client.site import Site
from polyward_server.contacts import read_contacts
from polyward_server.enrolment import Authority
from polyward_server.reception import AUTHORITY, ENROLMENT
from polyward_server.roster import hashed
from polyward_server.tables import certificates
from polyward_shared import pki
from polyward_shared.invitation import Invitation
from polyward_shared.problems import Problem
from polyward_shared.protos import CONNECT, SERVICE
from polyward_shared.protos import control_pb2 as pb
from tests.support.real_hub import RealHub, real_hub, until


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    with real_hub(tmp_path_factory.mktemp("enrolment")) as made:
        yield made


def asked(invitation: Invitation, folder: Path, *, patience: float = 0.0) -> Site:
    site = prepare(invitation, folder)
    enrol(invitation, site, lambda _: None, patience=patience)
    return site


def test_a_person_compares_fingerprints_and_lets_the_site_in(hub: RealHub, tmp_path: Path) -> None:
    invitation = hub.invite("north", approved=False)
    with pytest.raises(Problem, match="has not approved it within 0 s"):
        asked(invitation, tmp_path / "north")
    assert "north" not in hub.roster.keys()  # noqa: SIM118  a method of the roster, not of a mapping
    [waiting] = hub.roster.waiting(approved=False)
    site = prepare(invitation, tmp_path / "north")
    shown: list[Asking] = []
    hub.roster.decide(waiting.token, approve=True)
    certificate = enrol(invitation, site, shown.append, patience=20)
    assert shown[0].fingerprint == pki.fingerprint(hub.roster.keys()["north"])
    assert shown[-1].state == "issued"
    certificate.verify_directly_issued_by(pki.read_certificate(hub.hub.ca))
    assert certificate.public_key() == pki.read_key(site.key).public_key()
    assert {path.stat().st_mode & 0o777 for path in (site.key,)} == {0o600}
    assert hub.roster.waiting(approved=False) == hub.roster.waiting(approved=True) == []


def test_asking_again_gives_the_same_certificate(hub: RealHub, tmp_path: Path) -> None:
    invitation = hub.invite("again")
    first = asked(invitation, tmp_path / "again", patience=20).certificate.read_bytes()
    assert asked(invitation, tmp_path / "again", patience=20).certificate.read_bytes() == first


def test_a_token_serves_one_key(hub: RealHub, tmp_path: Path) -> None:
    invitation = hub.invite("once")
    asked(invitation, tmp_path / "once", patience=20)
    with pytest.raises(Problem, match="has been used already, with another key"):
        asked(invitation, tmp_path / "thief")
    assert not (tmp_path / "thief" / "state" / "gate" / "node.pem").exists()


def test_an_expired_invitation_is_refused(hub: RealHub, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="has expired"):
        asked(hub.invite("late", hours=-1.0), tmp_path / "late")


def test_a_new_invitation_ends_one_that_nobody_used(hub: RealHub, tmp_path: Path) -> None:
    first = hub.invite("twice")
    hub.invite("twice")
    with pytest.raises(Problem, match="does not know this invitation"):
        asked(first, tmp_path / "twice")


def test_a_rejected_request_stays_rejected(hub: RealHub, tmp_path: Path) -> None:
    invitation = hub.invite("stranger", approved=False)
    with pytest.raises(Problem, match="not approved"):
        asked(invitation, tmp_path / "s")
    [waiting] = [each for each in hub.roster.waiting(approved=False) if each.site == "stranger"]
    hub.roster.decide(waiting.token, approve=False)
    with pytest.raises(Problem, match="has rejected this request"):
        asked(invitation, tmp_path / "s")


def test_the_wrong_name_is_refused(hub: RealHub, tmp_path: Path) -> None:
    """A site that was invited as one cannot ask as another."""
    invitation = hub.invite("right")
    with pytest.raises(Problem, match="for a site of another name"):
        asked(invitation.model_copy(update={"site": "wrong"}), tmp_path / "wrong")
    assert not hub.roster.waiting(approved=True)


def test_another_hub_is_noticed_before_the_token_leaves(hub: RealHub, tmp_path: Path) -> None:
    invitation = hub.invite("careful").model_copy(update={"authority": "0" * 64})
    with pytest.raises(Problem, match="is not the hub that the invitation speaks of"):
        asked(invitation, tmp_path / "careful")
    assert not (tmp_path / "careful" / "ca.pem").exists()
    unused = hub.roster.asked(invitation.token)
    assert unused is not None
    assert unused.request == ""


def test_a_folder_of_another_site_is_left_alone(hub: RealHub, tmp_path: Path) -> None:
    prepare(hub.invite("mine"), tmp_path / "folder")
    before = (tmp_path / "folder" / "site.toml").read_bytes()
    with pytest.raises(Problem, match=r"is for mine at .* expected yours"):
        prepare(hub.invite("yours"), tmp_path / "folder")
    assert (tmp_path / "folder" / "site.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"token": "x", "request": "y"}', 400),
        (b'{"token": 1, "request": "y"}', 400),
        (b"x" * 9000, 413),
    ],
)
def test_what_is_no_request(hub: RealHub, body: bytes, status: int) -> None:
    with httpx.Client(verify=_trust(hub)) as client:
        assert client.post(f"https://127.0.0.1:{hub.hub.file.port}{ENROLMENT}", content=body).status_code == status


def test_the_reception_is_on_the_public_socket_alone(hub: RealHub) -> None:
    with httpx.Client(verify=_trust(hub)) as client:
        public, private = hub.hub.file.port, hub.hub.file.private_port
        assert client.get(f"https://127.0.0.1:{public}{AUTHORITY}").content == hub.hub.ca.read_bytes()
        assert client.get(f"https://127.0.0.1:{private}{AUTHORITY}").status_code == 404
        for path in ("/v1/enrolment/", "/v1/enrolment/authority/x", "/v1/enrolment/../control/x", "/"):
            assert client.get(f"https://127.0.0.1:{public}{path}").status_code == 404


def test_a_certificate_that_does_not_fit_is_not_kept(hub: RealHub, tmp_path: Path) -> None:
    site = asked(hub.invite("fits"), tmp_path / "fits", patience=20)
    before = site.certificate.read_bytes()
    key, authority = pki.new_authority("other")
    own = pki.read_key(site.key).public_key()
    foreign = pki.new_node_certificate("fits", own, timedelta(days=1), key, authority)
    hub_key = pki.read_key(hub.hub.ca_key)
    ours = pki.read_certificate(hub.hub.ca)
    other_key = pki.new_node_certificate("fits", pki.new_key().public_key(), timedelta(days=1), hub_key, ours)
    other_name = pki.new_node_certificate("other", own, timedelta(days=1), hub_key, ours)
    for wrong in (foreign, other_key, other_name):
        with pytest.raises(Problem, match="another key or name, or of another authority"):
            keep_certificate(site, pki.certificate_to_pem(wrong))
    assert site.certificate.read_bytes() == before


# --- who may speak on the control plane


def greet(hub: RealHub, ca: bytes, key: bytes | None, certificate: bytes | None) -> grpc.StatusCode | None:
    """How a greeting ends; None when it is heard."""
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    with grpc.secure_channel(f"127.0.0.1:{hub.hub.file.control_port}", credentials) as channel:
        stream = channel.stream_stream(
            f"/{SERVICE}/{CONNECT}",
            request_serializer=pb.FromNode.SerializeToString,
            response_deserializer=pb.FromHub.FromString,
        )

        def said() -> Iterator[pb.FromNode]:
            yield pb.FromNode(hello=pb.Hello(protocol=1, software="test 1.0"))
            time.sleep(0.5)

        call = stream(said(), timeout=5)
        with suppress(grpc.RpcError):
            list(call)
        code = call.code()
        return None if code is grpc.StatusCode.OK else code


def test_only_a_certificate_of_this_hub_with_its_key_is_heard(hub: RealHub, tmp_path: Path) -> None:
    site = asked(hub.invite("heard"), tmp_path / "heard", patience=20)
    other = asked(hub.invite("other"), tmp_path / "other", patience=20)
    ca, key, certificate = hub.hub.ca.read_bytes(), site.key.read_bytes(), site.certificate.read_bytes()
    assert greet(hub, ca, key, certificate) is None
    assert "heard" in read_contacts(hub.ledger)
    # without one, with a stolen one, and towards another hub
    assert greet(hub, ca, None, None) is grpc.StatusCode.UNAVAILABLE
    assert greet(hub, ca, other.key.read_bytes(), certificate) is grpc.StatusCode.UNAVAILABLE
    foreign_key, foreign = pki.new_authority("foreign")
    assert greet(hub, pki.certificate_to_pem(foreign), key, certificate) is grpc.StatusCode.UNAVAILABLE
    # of another authority, in a site's name
    public = pki.read_key(site.key).public_key()
    forged = pki.new_node_certificate("heard", public, timedelta(days=1), foreign_key, foreign)
    assert greet(hub, ca, key, pki.certificate_to_pem(forged)) is grpc.StatusCode.UNAVAILABLE
    # of this authority, but never given to anybody, or run out
    hub_key, ours = pki.read_key(hub.hub.ca_key), pki.read_certificate(hub.hub.ca)
    unknown = pki.new_node_certificate("heard", public, timedelta(days=1), hub_key, ours)
    assert greet(hub, ca, key, pki.certificate_to_pem(unknown)) is grpc.StatusCode.PERMISSION_DENIED
    ended = pki.new_node_certificate("heard", public, timedelta(seconds=-5), hub_key, ours)
    assert greet(hub, ca, key, pki.certificate_to_pem(ended)) is grpc.StatusCode.UNAVAILABLE
    # the hub's own certificate is a server's
    server = hub.hub.certificate.read_bytes(), hub.hub.key.read_bytes()
    assert greet(hub, ca, server[1], server[0]) is not None


def test_rotation_gives_a_new_key_and_ends_the_old_one(hub: RealHub, tmp_path: Path) -> None:
    site = asked(hub.invite("rotates"), tmp_path / "rotates", patience=20)
    ca, key, certificate = hub.hub.ca.read_bytes(), site.key.read_bytes(), site.certificate.read_bytes()
    rotate_key(site)
    assert site.key.read_bytes() != key
    assert greet(hub, ca, key, certificate) is grpc.StatusCode.PERMISSION_DENIED
    assert greet(hub, ca, site.key.read_bytes(), site.certificate.read_bytes()) is None
    assert hub.roster.keys()["rotates"] == pki.public_pem(pki.read_key(site.key)).decode()
    assert sorted(path.name for path in site.gate.iterdir()) == ["node.key", "node.pem"]


def test_a_rotation_that_was_cut_off_is_finished(hub: RealHub, tmp_path: Path) -> None:
    site = asked(hub.invite("cut"), tmp_path / "cut", patience=20)
    before = site.key.read_bytes(), site.certificate.read_bytes()
    rotate_key(site)
    after = site.key.read_bytes(), site.certificate.read_bytes()
    # killed between its last two steps: the new key is in place, the new certificate is not yet
    site.certificate.with_suffix(".pem.new").write_bytes(after[1])
    site.certificate.write_bytes(before[1])
    rotate_key(site)
    assert greet(hub, hub.hub.ca.read_bytes(), site.key.read_bytes(), site.certificate.read_bytes()) is None


def test_revocation_ends_what_is_open_and_touches_nobody_else(hub: RealHub, tmp_path: Path) -> None:
    bad, good = hub.enrolled("bad", tmp_path), hub.enrolled("good", tmp_path)
    with hub.linked(good), hub.linked(bad):
        began = time.monotonic()
        hub.roster.revoke("bad")
        until(lambda: not hub.is_here("bad"), 5)
        assert time.monotonic() - began < 2
        assert hub.is_here("good")
    ca = hub.hub.ca.read_bytes()
    assert greet(hub, ca, bad.key.read_bytes(), bad.certificate.read_bytes()) is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(Problem, match="this node's key was revoked"):
        asked(hub.invite("bad"), tmp_path / "bad")
    bad.key.rename(tmp_path / "old.key")
    (bad.gate / "node.csr").unlink()
    asked(hub.invite("bad"), tmp_path / "bad", patience=20)
    assert greet(hub, ca, bad.key.read_bytes(), bad.certificate.read_bytes()) is None


def test_a_renewal_of_the_present_key_answers_no_request_for_another(hub: RealHub, tmp_path: Path) -> None:
    """A site that moves to a new machine, while the old one still runs."""
    site, authority = hub.enrolled("moves", tmp_path), Authority(hub.hub)
    again = hub.invite("moves", approved=False)
    with pytest.raises(Problem, match="has not approved it within 0 s"):
        asked(again, tmp_path / "new machine")
    public = pki.read_key(site.key).public_key()
    hub.roster.issue("moves", authority.certify("moves", public), holder=pki.public_key_pem(public))
    [waiting] = hub.roster.waiting(approved=False)
    hub.roster.decide(waiting.token, approve=True)
    asked(again, tmp_path / "new machine", patience=20)
    assert not hub.roster.waiting(approved=True)


def test_a_site_that_was_away_for_longer_than_its_certificate_comes_back(hub: RealHub, tmp_path: Path) -> None:
    """With the key that it has, by a new invitation; the certificate that ran out is given to nobody."""
    first = hub.invite("away")
    site = asked(first, tmp_path / "away", patience=20)
    with hub.ledger.engine.begin() as db:
        db.execute(certificates.update().where(certificates.c.site == "away").values(expires=time.time() - 1))
    old = site.certificate.read_bytes()
    with pytest.raises(Problem, match="has expired"):
        asked(first, tmp_path / "away")
    asked(hub.invite("away"), tmp_path / "away", patience=20)
    assert site.certificate.read_bytes() != old


def test_a_revoked_site_comes_back_by_moving_its_key_away(hub: RealHub, tmp_path: Path) -> None:
    """As the refusal advises: nothing of the old key, its request neither, is used again."""
    site = asked(hub.invite("again"), tmp_path / "again", patience=20)
    hub.roster.revoke("again")
    invited = hub.invite("again")
    with pytest.raises(Problem, match="was revoked"):
        asked(invited, tmp_path / "again")
    site.key.rename(tmp_path / "old.key")
    asked(invited, tmp_path / "again", patience=20)
    assert hub.roster.keys()["again"] == pki.public_pem(pki.read_key(site.key)).decode()


def test_what_is_on_its_way_does_not_bring_a_site_back(hub: RealHub, tmp_path: Path) -> None:
    """A renewal or a request that was let in just before the revocation, and is answered just after it."""
    site, authority = hub.enrolled("racing", tmp_path), Authority(hub.hub)
    public, new = pki.read_key(site.key).public_key(), pki.new_key().public_key()
    token = hashed(hub.invite("racing").token)
    hub.roster.revoke("racing")
    for key in (public, new):
        with pytest.raises(Problem, match="was put out"):
            hub.roster.issue("racing", authority.certify("racing", key), holder=pki.public_key_pem(public))
    with pytest.raises(Problem, match="was put out"):
        hub.roster.issue("racing", authority.certify("racing", new), invitation=token)
    assert "racing" not in hub.roster.keys()  # noqa: SIM118  a method of the roster, not of a mapping
    assert "racing" in hub.roster.revoked()


def test_who_holds_a_key_that_was_rotated_away_cannot_renew_with_it(hub: RealHub, tmp_path: Path) -> None:
    site, authority = hub.enrolled("moved", tmp_path), Authority(hub.hub)
    old, thief = pki.public_pem(pki.read_key(site.key)).decode(), pki.new_key().public_key()
    rotate_key(site)
    with pytest.raises(Problem, match="has another key now"):
        hub.roster.issue("moved", authority.certify("moved", thief), holder=old)
    assert hub.roster.keys()["moved"] == pki.public_pem(pki.read_key(site.key)).decode()


def _trust(hub: RealHub) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(hub.hub.ca))
