"""A whole federation of toy trainers behind real gates, with the real round loop, ledger and registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Message

from polyward_client.gate.gate import Gate
from polyward_deploy.local_grid import LocalGrid, gates_by_node
from polyward_server.exchange import Presence
from polyward_server.federation import Federation
from polyward_server.ledger import Ledger
from polyward_server.records import Event
from polyward_server.registry import Registry
from polyward_server.rounds import run_study
from polyward_shared.messages import Report
from polyward_shared.schema import Flat
from polyward_shared.study import Study
from polyward_shared.wire import read_report, report_message
from tests.support.toy_trainer import ToyTrainer, toy_site

LONGEST_WAIT = 10  # turns without a quorum, in a test that expects one


@dataclass(frozen=True)
class Toy:
    """One site: where its training pulls to, and its labels."""

    target: float
    counts: Mapping[str, int]


class Liar(Gate):
    """A site whose gate was replaced: it says what `lie` makes of an honest report."""

    lie: Callable[[Report], Report] = staticmethod(lambda report: report)

    def answer(self, message: Message) -> Message:
        reply = super().answer(message)
        return report_message(self.lie(read_report(reply)), message) if reply.has_content() else reply


class ToyFederation:
    """Everything is kept in `folder`; making it again there goes on where it was. Use as a context."""

    def __init__(
        self,
        folder: Path,
        study: Study,
        toys: Mapping[str, Toy],
        *,
        workers: int = 2,
        lies: Mapping[str, Callable[[Report], Report]] | None = None,
        heard: Callable[[Event], None] = lambda _: None,
        tries: int | None = None,
    ) -> None:
        self.study = study
        self.tries = tries
        self.trainers: dict[str, ToyTrainer] = {}
        gates: dict[str, Gate] = {}
        for name, toy in toys.items():
            site = toy_site(folder / "sites", name, study, tuple(toy.counts))
            self.trainers[name] = ToyTrainer(site, toy.target, toy.counts)
            gates[name] = Liar(site, self.trainers[name])
            if lies and name in lies:
                gates[name].lie = lies[name]  # type: ignore[attr-defined]
        self.nodes, by_node = gates_by_node(gates)
        self.here = {name: Presence(online=True, since=0.0) for name in gates}
        self.grid = LocalGrid(by_node, workers)
        self.events: list[Event] = []
        self.ledger = Ledger(folder / "ledger.db", watch=self._hear)
        self._heard = heard
        self.registry = Registry(folder / "registry")
        self.stopped = False

    def __enter__(self) -> ToyFederation:
        return self

    def __exit__(self, *_: object) -> None:
        self.grid.close()
        self.ledger.close()

    def federation(self) -> Federation:
        return Federation(
            self.grid,
            lambda: self.here,
            lambda: self.nodes,
            self.ledger,
            self.registry,
            lambda: self.stopped,
            tries=self.tries,
        )

    def run(self) -> bool:
        self.ledger.queue(self.study)
        return run_study(self.study, self.federation())

    @property
    def digest(self) -> str:
        return self.study.digest()

    def states(self) -> list[str]:
        """The digest of the state after each committed round, the first state included."""
        return [committed.state for committed in self.ledger.rounds(self.digest)]

    def group(self, name: str, number: int = -1) -> Flat:
        """The values of one group of arrays after a round."""
        schema, flat = self.registry.load(self.states()[number])
        return flat[schema.groups[name]]

    def credited(self) -> dict[int, list[str]]:
        """Who contributed to each round."""
        return {
            number: [each.site for each in given] for number, given in self.ledger.contributions(self.digest).items()
        }

    def seen(self, what: str) -> list[tuple[int, str, str]]:
        return [(event.round, event.site, event.detail) for event in self.events if event.what == what]

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        assert len(self.seen("waiting")) < LONGEST_WAIT, "the study waits for ever"
        self._heard(event)
