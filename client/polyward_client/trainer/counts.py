"""A site's census made safe to hand on: no count of few patients, and none that others give away.

Within a task's split the total and the classes add up, so a class that is held back alone could be worked out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from polyward_client.trainer.manifest import SPLITS, Census
from polyward_shared.study import Study
from polyward_shared.whole import write_whole

TOTAL = ""  # the key of a split's total among its classes
WITHHELD = "withheld"  # small, or one of those that would give a small one away

Counted = dict[str, dict[str, dict[str, str]]]  # by task, split, and class or TOTAL


def safe_census(counts: Census, study: Study, tasks: Sequence[str], minimum: int) -> Counted:
    """The counts as text: a number, `<5` for a split with fewer than `minimum` labels, or `withheld`."""
    counted: Counted = {}
    for task in tasks:
        known = dict.fromkeys(name for owner, _, name in counts.classes if owner == task)
        names = getattr(study.tasks[task], "classes", tuple(sorted(known))) if known else ()
        counted[task] = {
            split: safe_row(
                counts.labels.get((task, split), 0),
                {name: counts.classes.get((task, split, name), 0) for name in names},
                minimum,
            )
            for split in SPLITS
        }
    return counted


def safe_row(total: int, classes: Mapping[str, int], minimum: int) -> dict[str, str]:
    """A total and the classes that add up to it, as text.

    If one class is below `minimum`, all are held back: whichever classes are chosen to hide a small one, the choice
    tells who knows the rule something about it, often the number itself. Held back whole, every class may be any.
    """
    if total < minimum:
        return dict.fromkeys((TOTAL, *classes), f"<{minimum}")
    few = any(count < minimum for count in classes.values())
    return {TOTAL: str(total)} | {name: WITHHELD if few else str(count) for name, count in classes.items()}


def write_census(path: Path, counted: Counted, *, site: str, study: Study, minimum: int) -> None:
    """The counts as JSON, whole or not at all, readable by this user alone."""
    tasks = {
        task: {
            split: {"labels": cells[TOTAL], "classes": {name: shown for name, shown in cells.items() if name != TOTAL}}
            for split, cells in splits.items()
        }
        for task, splits in counted.items()
    }
    stated = {"site": site, "study": study.id, "digest": study.digest(), "minimum_count": minimum, "tasks": tasks}
    write_whole(path, json.dumps(stated, indent=1).encode() + b"\n")
