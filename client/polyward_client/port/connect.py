"""The gate's end of the port: a `Trainer` that is another process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path

import grpc

from polyward_client.port.interface import Description, Done, Watcher, Work
from polyward_client.port.wires import OPTIONS, SERVICE, Ask, Reply, reply_from_bytes, to_bytes
from polyward_shared.problems import Code, Refused

log = logging.getLogger(__name__)

RESTARTS = 3  # a trainer that dies this often over one order is not asked again
START_SECONDS = 60.0  # importing torch and reading the first images


class RemoteTrainer:
    """The trainer behind `socket`. If it dies over a request, the request is made again once it is back."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket.name}", options=OPTIONS)
        self._ask = self._channel.unary_stream(
            f"/{SERVICE}/Ask", request_serializer=to_bytes, response_deserializer=reply_from_bytes
        )

    def close(self) -> None:
        self._channel.close()

    def describe(self, study: str) -> Description:
        reply = self._last(Ask(what="describe", study=study), lambda _: None)
        if reply.description is None:
            raise Refused(Code.INTERNAL, "the trainer answered something else")
        return reply.description

    def train(self, work: Work, watch: Watcher) -> Done:
        return self._done(Ask(what="train", work=work), watch)

    def finish(self, work: Work, watch: Watcher) -> Done:
        return self._done(Ask(what="finish", work=work), watch)

    def cancel(self) -> None:
        self._last(Ask(what="cancel"), lambda _: None)

    def _done(self, ask: Ask, watch: Watcher) -> Done:
        reply = self._last(ask, watch)
        if reply.done is None:
            raise Refused(Code.INTERNAL, "the trainer answered something else")
        return reply.done

    def _last(self, ask: Ask, watch: Watcher) -> Reply:
        for trial in range(1, RESTARTS + 1):
            try:
                return self._stream(ask, watch)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise Refused(Code.INTERNAL, f"the trainer's answer cannot be used: {error.code()}") from None
                log.warning("the trainer went away (%s), trial %d of %d", error.code(), trial, RESTARTS)
                time.sleep(0.2)
        raise Refused(Code.TRAINER_DIED, f"{RESTARTS} times over one order")

    def _stream(self, ask: Ask, watch: Watcher) -> Reply:
        call = self._ask(ask, wait_for_ready=True, timeout=None)
        replies: Iterable[Reply] = call
        try:
            self._await_channel()
        except Refused:
            call.cancel()  # type: ignore[no-untyped-call]  # nobody would hear the answer
            raise
        for reply in replies:
            if reply.failed is not None:
                raise Refused(reply.failed.code, reply.failed.detail)
            if reply.progress is None:
                return reply
            watch(reply.progress)
        raise Refused(Code.INTERNAL, "the trainer's answer ended early")

    def _await_channel(self) -> None:
        """Bounded waiting for a trainer that is (re)starting."""
        try:
            grpc.channel_ready_future(self._channel).result(timeout=START_SECONDS)
        except grpc.FutureTimeoutError:
            raise Refused(Code.TRAINER_DIED, f"it did not start within {START_SECONDS:.0f} s") from None
