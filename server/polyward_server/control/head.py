"""The head of the hub's history, which receipts bear: read on from where it was last read, never anew."""

from __future__ import annotations

import threading

from polyward_server.ledger import Ledger
from polyward_shared.chain import GENESIS
from polyward_shared.checkpoints import head_after


class Head:
    """Of one ledger. For any thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._rounds, self._head = 0, GENESIS

    def now(self) -> tuple[int, str]:
        """How many rounds are committed, and the digest of them."""
        with self._lock:
            new = self._ledger.history(self._rounds)
            self._rounds, self._head = self._rounds + len(new), head_after(new, self._head)
            return self._rounds, self._head
