"""Addresses within the dashboard that come from a browser: never one of another place."""

from __future__ import annotations

import re
from urllib.parse import quote

LOCAL = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,2000}")  # a path of this host: no //host, no backslash, no blank


def local(where: str) -> str:
    """The address if it is one of ours, otherwise the first page."""
    return where if LOCAL.fullmatch(where) else "/"


def sign_in_page(where: str) -> str:
    """The address of the sign-in page that leads to `where` afterwards."""
    there = local(where)
    return "/sign-in" if there == "/" else f"/sign-in?next={quote(there, safe='/')}"
