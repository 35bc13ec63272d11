"""A Flower grid without anybody behind it: a test says what comes back, when, and for which question."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flwr.app import Message

from polyward_deploy.local_grid import LocalGrid


@dataclass
class Question:
    """One message that was pushed."""

    id: str
    node: int
    message: Message


@dataclass
class ScriptedGrid(LocalGrid):
    """`react` is called with the id and the message of every question; it may `answer` now, later, or never."""

    react: Callable[[Question], None]
    gone: set[int] = field(default_factory=set)  # nodes that Flower no longer knows
    lost: BaseException | None = None  # raised instead of an answer
    asked: list[Question] = field(default_factory=list)
    timers: list[threading.Timer] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__({}, workers=1)
        self.ready: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids: list[str] = []
        for message in messages:
            if message.metadata.dst_node_id in self.gone:
                ids.append(None)  # type: ignore[arg-type]  # as Flower does
                continue
            question = Question(f"m{len(self.asked)}", message.metadata.dst_node_id, message)
            message.metadata.__dict__["_message_id"] = question.id
            self.asked.append(question)
            ids.append(question.id)
            self.react(question)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        if self.lost is not None:
            raise self.lost
        return [self.ready.pop(each) for each in message_ids if each in self.ready]

    def answer(self, question: Question, reply: Message) -> None:
        self.ready[question.id] = reply

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, action)
        self.timers.append(timer)
        timer.start()

    def close(self) -> None:
        for timer in self.timers:
            timer.cancel()
            timer.join()
        super().close()
