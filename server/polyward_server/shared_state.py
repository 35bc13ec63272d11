"""The arrays that a federation holds between two rounds, and which site holds which of them.

A group of arrays (`encoder`, `branches.mask`) has one state for all sites, or several *variants* of it: `encoder@2` is
the encoder of the sites that the rule has put together as number 2. The plain name is always there: where there are
variants it is what a newcomer starts from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from polyward_server.records import Member, Round
from polyward_server.registry import Registry
from polyward_shared.schema import BRANCHES, ENCODER, ArraySpec, Flat, Named, Schema
from polyward_shared.study import Study

MEMORY = "memory."  # of a rule, before the names of its arrays in the registry
VARIANT = "@"

Keys = tuple[str, ...]


@dataclass(slots=True)
class Shared:
    """`groups` holds one vector by key, `variants` the keys of sites that hold another than the plain one.

    `changes` are the last round's changes as they may be sent to a site that holds the state `before` them.
    """

    schemas: dict[str, Schema]  # by group, without variants
    groups: dict[str, Flat]  # by key
    variants: dict[str, dict[str, str]] = field(default_factory=dict)  # site -> group -> key
    memory: Named = field(default_factory=dict)  # what the rule remembers
    changes: dict[str, bytes] = field(default_factory=dict)  # by key
    before: dict[Keys, str] = field(default_factory=dict)  # digest of the state that sites with these keys held

    def keys(self, site: str, schema: Schema) -> Keys:
        """Where the groups of this site's schema are to be found, in the schema's order."""
        own = self.variants.get(site, {})
        return tuple(own.get(group, group) for group in schema.groups)

    def value(self, key: str) -> Flat:
        """The vector [n] of a key; a variant that nobody has trained yet begins as the plain one."""
        found = self.groups.get(key)
        return self.groups[group_of_key(key)] if found is None else found

    def lacks(self, schema: Schema) -> list[str]:
        """The groups of this schema of which no state is here."""
        return [group for group in schema.groups if group not in self.groups]

    def of(self, keys: Keys) -> Flat:
        """The state [n] of a site with these keys."""
        parts = [self.value(key) for key in keys]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def whole(self) -> tuple[Schema, Flat]:
        """Everything, with the variants under names of their own."""
        keys = tuple(sorted(self.groups, key=lambda key: (key != ENCODER, key)))
        arrays = (spec for key in keys for spec in _renamed(self.schemas[group_of_key(key)], key))
        return Schema(tuple(arrays)), self.of(keys)


def group_of_key(key: str) -> str:
    """`encoder@2` -> `encoder`."""
    return key.partition(VARIANT)[0]


def load(registry: Registry, last: Round) -> Shared:
    """The state of a committed round."""
    schema, flat = registry.load(last.state)
    plain = {key: schema.group(key) for key in schema.groups if VARIANT not in key}
    return Shared(
        plain,
        {key: flat[where] for key, where in schema.groups.items()},
        last.variants,
        _memory(registry, last.memory),
    )


def keep_memory(registry: Registry, memory: Named, study: str, number: int) -> str:
    """Puts what a rule remembers on the disk and returns its digest, empty if there is nothing."""
    if not memory:
        return ""
    arrays = {MEMORY + name: memory[name] for name in sorted(memory)}
    schema = Schema.of(arrays)
    return registry.add(schema, schema.pack(arrays), {"study": study, "round": str(number)})


def _memory(registry: Registry, digest: str) -> Named:
    if not digest:
        return {}
    schema, flat = registry.load(digest)
    return {name.removeprefix(MEMORY): view for name, view in schema.views(flat).items()}


def taskset_variants(study: Study, members: Mapping[str, Member]) -> dict[str, dict[str, str]]:
    """With branches shared among sites that have the very same tasks: which variant of a branch each site holds.

    The number is the place of the set of tasks among the study's, in the order of their bits, so it never changes.
    """
    found: dict[str, dict[str, str]] = {}
    for site, member in members.items():
        number = sum(1 << place for place, task in enumerate(study.tasks) if task in member.counts)
        groups = [f"{BRANCHES}.{task}" for task in member.counts]
        found[site] = {group: f"{group}{VARIANT}{number}" for group in groups}
    return found


def _renamed(schema: Schema, key: str) -> list[ArraySpec]:
    group = group_of_key(key)
    return [ArraySpec(key + spec.name.removeprefix(group), spec.shape) for spec in schema.arrays]
