"""Who is asked in a round: all who are there, or a sample that is drawn from the study's seed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from polyward_server.records import Member
from polyward_shared.seeds import seed_for
from polyward_shared.study import Study


def chosen(study: Study, members: Mapping[str, Member], online: Collection[str], number: int) -> list[str]:
    """The sites that the round asks, by name.

    A sample is the beginning of an order of all members that is drawn from study and round, with those who are online
    first: as large as the study says, never below the quorum, and with owners of each task whose quorum the study
    names. Who is away and not in the sample changes nothing; where too few are here, members who are away are asked
    and waited for.
    """
    rule = study.participation
    if rule.sample >= 1:
        return sorted(members)
    names = sorted(members)
    wanted = max(rule.quorum, math.ceil(rule.sample * len(names)))
    order = np.random.default_rng(seed_for(study.seed, "sample", number)).permutation(len(names))
    drawn = sorted((names[place] for place in order), key=lambda site: site not in online)  # stable
    asked = drawn[:wanted]
    for task, needed in rule.task_quorum.items():
        owners = sum(task in members[site].counts for site in asked)
        others = [site for site in drawn if site not in asked and task in members[site].counts]
        asked += others[: max(0, needed - owners)]
    return sorted(asked)
