"""Who is asked in a round: all who are there, or a sample that is drawn from the study's seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np

from polyward_server.records import Member
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study


def chosen(study: Study, members: Mapping[str, Member], online: Collection[str], number: int, missed: int) -> list[str]:
    """The sites that the round asks, by name.

    A sample is drawn among those who are online: as large as the study says, never below the quorum, and with owners
    of each task whose quorum the study names. After `missed` turns without a quorum it is another one.
    """
    rule = study.participation
    if rule.sample >= 1:
        return sorted(members)
    here = sorted(set(members) & set(online))
    wanted = max(rule.quorum, math.ceil(rule.sample * len(members)))
    order = np.random.default_rng(seed_for(study.seed, "sample", number, missed)).permutation(len(here))
    drawn = [here[place] for place in order]
    asked = drawn[:wanted]
    for task, needed in rule.task_quorum.items():
        owners = Counter(task in members[site].counts for site in asked)[True]
        others = [site for site in drawn if site not in asked and task in members[site].counts]
        asked += others[: max(0, needed - owners)]
    return sorted(asked)
