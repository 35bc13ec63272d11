"""Orders to train or to finish: the whole state, or only its last change for a site that holds the state before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from weakref import WeakValueDictionary

from flwr.app import ArrayRecord, Message

from polyward_server.federation import Federation
from polyward_server.shared_state import Keys, Shared
from polyward_shared.codec import Codec, encode
from polyward_shared.messages import Kind, Order, Report
from polyward_shared.schema import Flat, Schema
from polyward_shared.study import Study
from polyward_shared.wire import payload_record


class Orders:
    """Builds a site's order of one round; a payload is made once for all sites that need the same bytes.

    `held` says which state each site holds, as far as the hub knows; it is kept from round to round.
    """

    def __init__(
        self,
        study: Study,
        federation: Federation,
        shared: Shared,
        schemas: Mapping[str, Schema],
        held: dict[str, str],
        kind: Kind,
        number: int,
    ) -> None:
        self._study, self._federation, self._shared = study.digest(), federation, shared
        self._held, self._kind, self._number = held, kind, number
        # A payload lives as long as a message that carries it: while a round is trained, the hub holds none.
        self._payloads: WeakValueDictionary[tuple[Keys, Codec], ArrayRecord] = WeakValueDictionary()
        self.keys = {site: shared.keys(site, schema) for site, schema in schemas.items()}
        several = {self.keys[site]: schema for site, schema in schemas.items()}
        self.digests = {keys: schema.state_digest(shared.of(keys)) for keys, schema in several.items()}
        self.bytes_down: Counter[str] = Counter()

    def __call__(self, site: str, attempt: int) -> Message:
        keys = self.keys[site]
        holds = self._held.get(site, "") if attempt == 1 else ""  # a site that lost something gets the whole state
        before = self._shared.before.get(keys)
        change = bool(self._shared.changes) and holds != "" and holds == before
        codec: Codec = "bfloat16" if change else "float32"
        record = self._payload(keys, codec)
        self.bytes_down[site] += len(record["state"].data)
        self._held[site] = self.digests[keys]
        order = Order(
            kind=self._kind,
            study=self._study,
            round=self._number,
            attempt=attempt,
            state_digest=self.digests[keys],
            base_digest=holds if change else "",
            codec=codec,
        )
        return self._federation.message(site, order, record)

    def is_answered_by(self, report: Report, site: str) -> bool:
        """Whether the report says that it belongs to this site's order, whichever attempt."""
        asked = (self._kind, self._study, self._number, self.digests[self.keys[site]])
        return (report.kind, report.study, report.round, report.state_digest) == asked

    def base(self, site: str) -> Flat:
        """The state [n] that this site is told to start from."""
        return self._shared.of(self.keys[site])

    def _payload(self, keys: Keys, codec: Codec) -> ArrayRecord:
        record = self._payloads.get((keys, codec))
        if record is None:
            if codec == "bfloat16":
                data = b"".join(self._shared.changes[key] for key in keys)
            else:
                data = encode("float32", self._shared.of(keys), None)
            record = self._payloads[keys, codec] = payload_record(data)
        return record
