"""A gate's link that sends every order back; in this process as a thread, or as a process of its own."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from flwr.app import Message

from polyward_client.gate.link import FleetLink


def echo(link: FleetLink, stop: threading.Event) -> None:
    """Answer until told to stop."""
    while not stop.is_set():
        order = link.receive()
        if order is None:
            stop.wait(0.02)
        elif order.has_content():
            link.reply(Message(order.content, reply_to=order), 0.0)


@contextmanager
def echoing(link: FleetLink) -> Iterator[None]:
    """Have a connected link echo while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=echo, args=(link, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main() -> None:
    """Echo for ever: python -m tests.support.echo ADDRESS CA KEY. Prints its idle memory in MB."""
    address, ca, key_file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    key = load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    link = FleetLink(address, ca.read_bytes(), key)
    never = threading.Event()
    link.connect(never)
    print(round(psutil.Process().memory_info().rss / 1e6), flush=True)
    echo(link, never)


if __name__ == "__main__":
    main()
