"""A Flower `Grid` that hands each message to a real gate in this process: no network, no daemon, same code.

Sites work on a few threads; each site answers one message at a time. What a gate answers does not depend on what
other sites do, so the number of workers changes the time a round takes and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from polyward_client.gate.gate import Gate

RUN = 1
HUB = 1


class LocalGrid(Grid):
    """Gates by node id; at most `workers` of them at work at once."""

    def __init__(self, gates: Mapping[int, Gate], workers: int) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = RUN, HUB, 1  # Message() asks for them
        self._gates = gates
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="site")
        self._answers: dict[str, Future[Message]] = {}
        self._count = 0

    def close(self) -> None:
        """Waits for the sites that are at work."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            self._count += 1
            message_id = f"message-{self._count}"
            message.metadata.__dict__.update(_message_id=message_id, _src_node_id=HUB, _run_id=RUN)
            gate = self._gates[message.metadata.dst_node_id]
            self._answers[message_id] = self._pool.submit(gate.answer, message)
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The answers that are ready; each is given out once."""
        ready = []
        for message_id in message_ids:
            answer = self._answers.get(message_id)
            if answer is not None and answer.done():
                del self._answers[message_id]
                ready.append(answer.result())
        return ready

    # What `Grid` declares besides, and our round loop does not use.

    def set_run(self, run: Run) -> None:
        raise ValueError("a local grid has one run, its own")

    @property
    def run(self) -> Run:
        raise ValueError("a local grid has one run, its own")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        raise ValueError("use the Message constructor")

    def get_node_ids(self) -> Iterable[int]:
        return list(self._gates)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise ValueError("use push_messages and pull_messages")


def gates_by_node(gates: Mapping[str, Gate]) -> tuple[dict[str, int], dict[int, Gate]]:
    """Node ids for named gates, in the order of the names."""
    nodes = {name: 1000 + index for index, name in enumerate(sorted(gates))}
    return nodes, {nodes[name]: gate for name, gate in gates.items()}
