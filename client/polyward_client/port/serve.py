"""The trainer's end of the port."""

from __future__ import annotations

import queue
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from polyward_client.port.interface import Done, Failed, Progress, Trainer, Work
from polyward_client.port.wires import OPTIONS, SERVICE, Ask, Reply, ask_from_bytes, to_bytes
from polyward_shared.problems import Code, Refused

GONE_SECONDS = 1.0  # between looks whether the gate still listens


def serve(trainer: Trainer, socket: Path) -> grpc.Server:
    """Starts answering on `socket` and returns the running server.

    Only this user may connect, and the folder's group where that may write into the folder: the gate's, if it is
    another user.
    A Unix socket's path is short (107 bytes), so the process works in the socket's folder and names it relatively.
    """
    socket.unlink(missing_ok=True)
    handler = grpc.unary_stream_rpc_method_handler(
        lambda ask, context: _answer(trainer, ask, context),
        request_deserializer=ask_from_bytes,
        response_serializer=to_bytes,
    )
    server = grpc.server(ThreadPoolExecutor(4, thread_name_prefix="port"), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Ask": handler}),))
    server.add_insecure_port(f"unix:{socket.name}")
    server.start()
    socket.chmod(0o660 if socket.parent.stat().st_mode & stat.S_IWGRP else 0o600)
    return server


def _answer(trainer: Trainer, ask: Ask, context: grpc.ServicerContext) -> Iterator[Reply]:
    if ask.what == "cancel":
        trainer.cancel()
        yield Reply(cancelled=True)
        return
    if ask.what == "describe":
        yield _described(trainer, ask.study)
        return
    if ask.work is None:
        yield Reply(failed=Failed(code=Code.INTERNAL, detail="no work in the request"))
        return
    yield from _worked(trainer, ask.what, ask.work, context)


def _described(trainer: Trainer, study: str) -> Reply:
    try:
        return Reply(description=trainer.describe(study))
    except Refused as refused:
        return Reply(failed=Failed(code=refused.code, detail=refused.detail))


def _worked(trainer: Trainer, what: str, work: Work, context: grpc.ServicerContext) -> Iterator[Reply]:
    """Runs the work beside the stream. The work goes on when the gate is gone: its result waits in the spool."""
    stream: queue.Queue[Reply | None] = queue.Queue()

    def watch(progress: Progress) -> None:
        stream.put(Reply(progress=progress))

    def run() -> None:
        try:
            done: Done = (trainer.train if what == "train" else trainer.finish)(work, watch)
            stream.put(Reply(done=done))
        except Refused as refused:
            stream.put(Reply(failed=Failed(code=refused.code, detail=refused.detail)))
        finally:
            stream.put(None)  # a bug in the trainer ends the stream too; its traceback is in the trainer's log

    threading.Thread(target=run, name="work", daemon=True).start()
    while context.is_active():  # a gate that was started again asks anew, and needs this thread
        try:
            reply = stream.get(timeout=GONE_SECONDS)
        except queue.Empty:
            continue
        if reply is None:
            return
        yield reply
