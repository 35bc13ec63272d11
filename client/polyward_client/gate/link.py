"""The gate's link to the hub: one Flower node that stays online by itself.

A keeper thread activates the node's key, sends heartbeats and, whenever the hub is restarted or out of reach,
starts over; nothing that the hub does or says ends the process. Orders and replies pass through `receive` and
`reply` on the caller's thread. What an order says, and whether to obey it, is not decided here.
"""

import logging
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from enum import Enum

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectPushError

from polyward_client.gate.fleet import Fleet
from polyward_shared.inflate import Misshapen
from polyward_shared.proxy import spare_loopback_the_proxy

log = logging.getLogger(__name__)

# What a call may raise when the way to the hub is disturbed. ValueError: a portal that answers with a page.
DISTURBED = (httpx.HTTPError, ValueError, OSError)
PAUSES = (0.2, 0.5, 1.0, 2.0)  # seconds between attempts to get online; the last one repeats
BEAT = 0.8  # of the interval that the hub was told: the rest is for the way
CLOCK_TOLERANCE = 5.0  # seconds; the hub refuses signatures from further in the future (or 305 s in the past)
AWAY_SECONDS = 1.0  # long enough for the hub's runner to look, which it does many times a second
STALE_INTERVALS = 2.5  # the hub counts a silent node as online for 2; a refusal after that has another reason


class LinkState(Enum):
    """Where the link stands, for status displays."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    ONLINE = "online"
    UNREACHABLE = "hub unreachable"
    UNTRUSTED = "hub's certificate refused"
    STILL_ACTIVE = "not accepted yet"
    NOT_REGISTERED = "key not registered at the hub"
    CLOCK_SKEW = "clock differs from the hub's"
    REFUSED = "refused by the hub"


ADVICE = {
    LinkState.ONLINE: "online",
    LinkState.UNREACHABLE: "the hub cannot be reached; trying again",
    LinkState.UNTRUSTED: "the hub's certificate is not signed by the hub's CA for this address (or something "
    "between rewrites TLS); trying again",
    LinkState.STILL_ACTIVE: "the hub does not accept this node yet: an earlier connection has not timed out, "
    "or the key awaits approval; trying again",
    LinkState.NOT_REGISTERED: "the hub does not know this node's key: it awaits approval, or was revoked, or its "
    "certificate ran out; ask the coordinator",
    LinkState.CLOCK_SKEW: "this machine's clock differs from the hub's, so signatures are refused; set the clock",
    LinkState.REFUSED: "the hub refused this node; trying again",
    LinkState.CLOSED: "closed",
}


class FleetLink:
    """One registered node. `receive` and `reply` are for one thread; the properties for any."""

    def __init__(
        self,
        address: str,
        ca_pem: bytes,
        private_key: ec.EllipticCurvePrivateKey,
        *,
        heartbeat_seconds: float = 5.0,
        max_payload: int = 4 * 2**30,
    ) -> None:
        """Prepare a link to the hub at `address` (host:port); nothing is sent before `connect`."""
        spare_loopback_the_proxy()
        self._fleet = Fleet(address, ca_pem, private_key, max_payload=max_payload)
        self._heartbeat_seconds = heartbeat_seconds
        self._state = LinkState.CONNECTING
        self._node_id = 0
        self._refused_since: float | None = None
        self._ended = threading.Event()
        self._online = threading.Event()
        self._check_now = threading.Event()  # something failed: do not wait for the next heartbeat
        self._lost = threading.Event()  # an order may have been handed out that never came
        self._keeper = threading.Thread(target=self._keep_online, name="fleet link", daemon=True)

    @property
    def state(self) -> LinkState:
        """Where the link stands."""
        return self._state

    @property
    def node_id(self) -> int:
        """The node's id at the hub, 0 before the first activation; it changes when the hub lost its state."""
        return self._node_id

    def connect(self, stop: threading.Event) -> bool:
        """Go online, for as long as it takes; False when `stop` was set first."""
        if not self._keeper.is_alive():
            self._keeper.start()
        while not self._online.wait(0.05):
            if stop.is_set():
                return False
        return True

    def close(self) -> None:
        """Go offline and end. The link cannot be used again."""
        self._ended.set()
        self._check_now.set()
        if self._keeper.is_alive():
            self._keeper.join(timeout=5.0)  # it may be waiting for a hub that does not answer
        if self._state is LinkState.ONLINE:
            try:
                self._fleet.deactivate(self._node_id)
            except DISTURBED as error:
                log.info("the hub was not told that this node goes offline: %s", error)
        self._online.clear()
        self._enter(LinkState.CLOSED)
        self._fleet.close()

    def receive(self, announced: Callable[[], None] = lambda: None) -> Message | None:
        """Return the next order, whatever it says, or None when there is none or the hub is out of reach.

        `announced` is called when there is one, before it is fetched.
        """
        if not self._online.is_set():
            return None
        try:
            head = self._fleet.announced(self._node_id)
        except DISTURBED as error:
            self._failed(error, lost=may_have_arrived(error))
            return None
        if head is None:
            return None
        metadata, tree = head
        announced()
        try:
            return self._fleet.fetch(self._node_id, metadata, tree)
        except (ObjectPullError, Misshapen) as error:
            log.warning("an order of run %d was dropped: %s", metadata.run_id, error)
        except DISTURBED as error:
            log.warning("an order of run %d was lost on the way: %s", metadata.run_id, error)
            self._failed(error, lost=may_have_arrived(error))
        return None

    def reply(self, message: Message, seconds_worked: float, *, patience: float = 60.0) -> bool:
        """Send a reply and return whether it arrived.

        A broken connection is waited out for `patience` seconds. A reply whose run has ended is dropped.
        """
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and not self._ended.is_set():
            if not self._online.wait(0.2):
                continue
            try:
                self._fleet.answer(self._node_id, message, seconds_worked)
            except httpx.TransportError as error:
                self._failed(error)
            except (*DISTURBED, ObjectPushError) as error:
                log.warning("the hub did not take the reply to run %d: %s", message.metadata.run_id, error)
                return False
            else:
                return True
        log.warning("the reply to run %d was dropped: the hub stayed out of reach", message.metadata.run_id)
        return False

    def _keep_online(self) -> None:
        """Activate, send heartbeats, start over; until closed."""
        failures = 0
        while not self._ended.is_set():
            try:
                if self._node_id != 0 and self._lost.is_set():
                    self._fleet.deactivate(self._node_id)
                    self._node_id = 0
                    self._ended.wait(AWAY_SECONDS)
                if self._node_id == 0:
                    self._node_id = self._fleet.activate(self._heartbeat_seconds)
                    self._lost.clear()
                elif not self._fleet.heartbeat(self._node_id, self._heartbeat_seconds):
                    self._node_id = 0
                    continue
            except DISTURBED as error:
                self._online.clear()
                if self._node_id != 0 and refused(error):
                    self._node_id = 0  # the hub no longer knows this id: activate the key again
                    continue
                self._enter(self._explain(error))
                pause = PAUSES[min(failures, len(PAUSES) - 1)]
                failures += 1
            else:
                failures = 0
                self._refused_since = None
                self._enter(LinkState.ONLINE)
                self._online.set()
                pause = BEAT * self._heartbeat_seconds
            self._check_now.wait(pause)
            self._check_now.clear()

    def _failed(self, error: Exception, *, lost: bool = False) -> None:
        """Have the keeper look at once, and nobody else use the connection before it has.

        The hub hands an order out once, and asks again only a node that it has seen leave. So where an order may be
        lost, the keeper leaves for a moment.
        """
        log.info("a call to the hub failed: %s", error)
        if lost:
            self._lost.set()
        self._online.clear()
        self._check_now.set()

    def _enter(self, state: LinkState) -> None:
        """Log a change of state, once."""
        if state is not self._state:
            log.log(logging.INFO if state in (LinkState.ONLINE, LinkState.CLOSED) else logging.WARNING, ADVICE[state])
        self._state = state

    def _explain(self, error: Exception) -> LinkState:
        """Return what an error says about the link."""
        if not isinstance(error, httpx.HTTPStatusError):
            return LinkState.UNTRUSTED if "CERTIFICATE_VERIFY_FAILED" in str(error) else LinkState.UNREACHABLE
        if error.response.status_code == httpx.codes.UNAUTHORIZED:
            skewed = abs(clock_difference(error.response)) > CLOCK_TOLERANCE
            return LinkState.CLOCK_SKEW if skewed else LinkState.NOT_REGISTERED
        if error.response.status_code != httpx.codes.PRECONDITION_FAILED:
            return LinkState.REFUSED
        # Flower gives one answer for two reasons; only time tells them apart.
        if self._refused_since is None:
            self._refused_since = time.monotonic()
        waited = time.monotonic() - self._refused_since
        stale = waited < STALE_INTERVALS * self._heartbeat_seconds
        return LinkState.STILL_ACTIVE if stale else LinkState.NOT_REGISTERED


def may_have_arrived(error: Exception) -> bool:
    """Return whether the hub may have answered a call that failed so."""
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def refused(error: Exception) -> bool:
    """Return whether the hub itself said no, and not a proxy that cannot reach it."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500


def clock_difference(response: httpx.Response) -> float:
    """Return by how many seconds this machine's clock is ahead of the hub's (0 when the hub does not say)."""
    stamp = response.headers.get("date")
    return time.time() - parsedate_to_datetime(stamp).timestamp() if stamp else 0.0
