"""How the hub's pages and reports are drawn from templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2


def environment(package: str, **filters: Callable[..., Any]) -> jinja2.Environment:
    """The templates of a package: everything is escaped, and a name that is not there is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(filters)
    return made
