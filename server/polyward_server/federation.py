"""What a running study consists of at the hub: the way to the sites, and the durable state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from polyward_server.exchange import Exchange, Presence
from polyward_server.ledger import Ledger
from polyward_server.records import Event, Member, State
from polyward_server.registry import Registry
from polyward_shared.messages import Order
from polyward_shared.wire import order_content

LIFETIME = 12 * 3600.0  # of a message in Flower's store; our own deadline is the study's
ROUND_SECONDS = 1800.0  # the longest between two looks at an exchange: the folding of updates, and a commit


@dataclass(frozen=True, slots=True)
class Federation:
    """What a study needs to run: the way to the sites, the durable state, and who is who."""

    grid: Grid
    presence: Callable[[], Mapping[str, Presence]]
    nodes: Callable[[], Mapping[str, int]]  # site -> Flower's node id; only these sites are asked
    ledger: Ledger
    registry: Registry
    stopped: Callable[[], bool] = lambda: False  # whether to end after the round under way
    leaves: Callable[[], bool] = lambda: False  # whether to leave that round too, at once
    fence: Callable[[sa.Connection], None] = lambda _: None  # of every commit: raises if another hub runs the study
    came_round: Callable[[float], None] = lambda _: None  # told that work goes on, and by when it will be told again
    tries: int | None = None  # of a round without a quorum; for simulations, where what failed fails again

    def members(self, study: str) -> dict[str, Member]:
        """The sites that take part and may be asked now."""
        nodes = self.nodes()
        return {s: m for s, m in self.ledger.members(study).items() if m.agrees and s in nodes}

    def message(self, site: str, order: Order, arrays: ArrayRecord) -> Message:
        """The order as a message to the site's authenticated node."""
        content = order_content(order, arrays)
        return Message(content=content, dst_node_id=self.nodes()[site], message_type=order.kind, ttl=LIFETIME)

    def goes_on(self, study: str) -> None:
        """The study is being run, as far as people let it."""
        self.ledger.set_state(study, State.RUNNING, only_from=(State.QUEUED, State.RESUMING, State.WAITING))

    def waits(self, study: str, why: str) -> None:
        """Nothing comes further, as people can read now."""
        going = (State.QUEUED, State.RESUMING, State.RUNNING, State.WAITING)
        self.ledger.set_state(study, State.WAITING, why, only_from=going)

    def exchange(
        self,
        study: str,
        number: int,
        ask: Callable[[str, int], Message],
        watch: Callable[[set[str], set[str]], None] = lambda *_: None,
    ) -> Exchange:
        """A new exchange whose notices become events of this round. `watch`: see `Exchange`."""

        def notice(site: str, what: str, detail: str) -> None:
            self.ledger.note(Event(study, number, site, what, detail))

        def look(here: set[str], away: set[str]) -> bool:
            self.came_round(ROUND_SECONDS)
            watch(here, away)
            return self.leaves()

        self.came_round(ROUND_SECONDS)  # the first look asks every site, which takes long where states are large
        return Exchange(self.grid, self.presence, ask, notice, look)
