"""Who may speak with whom, by Kubernetes' rules for network policies."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    labels: Mapping[str, str]
    namespace: str
    namespace_labels: Mapping[str, str]


Peer = Pod | str  # a pod, or an address outside the cluster


def reaches(policies: Sequence[Policy], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is allowed by both ends' policies. Addresses outside have none."""
    return _allows(policies, source, target, port, protocol, "egress") and _allows(
        policies, target, source, port, protocol, "ingress"
    )


def _allows(policies: Sequence[Policy], here: Peer, there: Peer, port: int, protocol: str, direction: str) -> bool:
    """A pod that no policy selects for this direction is open; otherwise one rule of one of them must allow it."""
    if isinstance(here, str):
        return True
    selecting = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == here.namespace
        and _matches(policy["spec"]["podSelector"], here.labels)
        and direction.capitalize() in policy["spec"]["policyTypes"]
    ]
    end = "to" if direction == "egress" else "from"
    return not selecting or any(
        _allowed_by(rule, end, here, there, port, protocol) for spec in selecting for rule in spec.get(direction, ())
    )


def _allowed_by(rule: Mapping[str, Any], end: str, here: Pod, there: Peer, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    if ports and not any(each.get("protocol", "TCP") == protocol and each["port"] == port for each in ports):
        return False
    peers = rule.get(end)
    return not peers or any(_is_peer(peer, here, there) for peer in peers)


def _is_peer(peer: Mapping[str, Any], here: Pod, there: Peer) -> bool:
    assert set(peer) <= {"ipBlock", "podSelector", "namespaceSelector"}
    if isinstance(there, str):
        block = peer.get("ipBlock")
        return block is not None and ipaddress.ip_address(there) in ipaddress.ip_network(block["cidr"])
    if "ipBlock" in peer:  # which is for addresses outside; what it does to pods, each plugin says for itself
        return False
    if "namespaceSelector" in peer:
        near = _matches(peer["namespaceSelector"], there.namespace_labels)
    else:
        near = there.namespace == here.namespace
    return near and _matches(peer.get("podSelector", {}), there.labels)


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items())
