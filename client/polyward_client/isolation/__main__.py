"""`python -m polyward_client.isolation PLAN COMMAND`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from polyward_client.isolation.entering import enter
from polyward_client.isolation.plan import Plan
from polyward_shared.problems import Problem


def main(arguments: Sequence[str]) -> None:
    """Enters the plan's isolation and becomes the command. A `Problem` is printed as JSON, with exit code 2."""
    plan, command = Plan.from_json(arguments[0]), arguments[1:]
    try:
        enter(plan)
    except Problem as problem:
        print(json.dumps([problem.where, problem.found, problem.expected, problem.remedy]))
        print(problem, file=sys.stderr)
        sys.exit(2)
    if command:
        os.execv(command[0], list(command))  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
