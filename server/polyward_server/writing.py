"""A study as a study.toml, which reads back to the same digest."""

from __future__ import annotations

import tomli_w

from polyward_shared.study import Study


def written(study: Study) -> str:
    """Every setting, defaults too: who approves it sees all of them."""
    return tomli_w.dumps(study.model_dump(mode="json", exclude_none=True))
