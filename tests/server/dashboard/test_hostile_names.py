"""Whatever a site calls itself, its metrics or its software: no page breaks, and nothing of it is markup or a formula.

The names are written into the ledger directly, past every check at the hub's doors.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
import sqlalchemy as sa

from polyward_server.dashboard.app import create_app
from polyward_server.dashboard.desk import Desk
from polyward_server.dashboard.guard import needed
from polyward_server.dashboard.panels import harmless
from polyward_server.tables import rounds
from tests.support.dashboard import Served, served
from tests.support.hostile import FORMULA, hostile_hub

COMPUTED = "7099361"
OURS = re.compile(r"/static/[\w.-]+\.js")
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(hostile_hub(tmp_path_factory.mktemp("hostile") / "hub")) as running:
        yield running


@pytest.fixture(scope="module")
def paths(hostile: Served) -> list[str]:
    """Every address that can be read, of this study and of one encoder."""
    desk = Desk.of(hostile.hub)
    routes = needed(create_app(desk))
    desk.ledger.close()
    with hostile.ledger.engine.connect() as db:
        digest, encoder = db.execute(sa.select(rounds.c.study, rounds.c.encoder)).first() or ("", "")
    known = {"study": digest, "digest": digest, "prefix": digest, "encoder": encoder}
    found = []
    for method, path in routes:
        wanted = set(re.findall(r"\{(\w+)\}", path))
        if method == "GET" and wanted <= set(known) and not path.startswith(("/live", "/sign-in", "/static")):
            found.append(path.format(**known))
    assert len(found) > 10
    return found


def test_no_page_takes_a_name_for_markup(hostile: Served, paths: list[str]) -> None:
    shown = 0
    with hostile.browser("admin") as client:
        for path in paths:
            answer = client.get(path, headers={"accept": "text/html"})
            assert answer.status_code < 500, path
            if "html" in answer.headers["content-type"]:
                _Checked(path).check(answer.text)
                shown += "&lt;xss" in answer.text
            assert COMPUTED not in answer.text, path
    assert shown >= 3  # the names are there, as text


def test_what_a_stream_sends_is_as_harmless(hostile: Served) -> None:
    with hostile.browser("admin") as client, client.stream("GET", "/live/sites") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                told = json.loads(line.removeprefix("data: "))
                _Checked("/live/sites").check(told["html"])
                if told["panel"] == "sites":
                    assert "&lt;xss" in told["html"]
                    return
    pytest.fail("the stream ended without the sites")


@pytest.mark.parametrize(
    "cell", ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "  =1+1", "|x", "\uff1d1", "\uff0b1"]
)
def test_however_a_formula_begins_its_cell_is_text(cell: str) -> None:
    plain = cell.replace("\r", " ")  # which would begin a row
    assert harmless(cell) == f"'{plain}"
    assert harmless(f"a{cell}") == f"a{plain}"
    assert harmless(-1.5) == -1.5


def test_json_is_json_and_no_cell_is_a_formula(hostile: Served, paths: list[str]) -> None:
    marked = 0
    with hostile.browser("admin") as client:
        for path in paths:
            if not path.startswith("/api/"):
                continue
            answer = client.get(path)
            if answer.status_code == 422 and "required" in answer.text:
                continue  # one encoder's panels, which need its name
            assert answer.status_code == 200, (path, answer.text)
            if not path.endswith(".csv"):
                assert isinstance(answer.json(), dict), path
                assert answer.headers["content-type"] == "application/json"
                continue
            assert answer.headers["content-type"].startswith("text/csv")
            assert answer.headers["content-disposition"].startswith('attachment; filename="')
            for row in csv.reader(io.StringIO(answer.text)):
                for cell in row:
                    assert cell[:1] not in {"=", "@", "+", "\t", "\r"}, (path, cell)
                    marked += cell == f"'{FORMULA}"
    assert marked > 0


class _Checked(HTMLParser):
    """Fails on any element, attribute or script that our templates do not write."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._open: list[str] = []

    def check(self, text: str) -> None:
        self.feed(text)
        self.close()
        assert not self._open, (self._path, self._open)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag != "xss", self._path
        assert not [name for name in given if name.startswith("on") or name == "style"], (self._path, tag, given)
        if tag == "script":
            assert OURS.fullmatch(given.get("src") or ""), (self._path, given)
        for name in ("href", "src", "action", "data-post"):
            assert (given.get(name) or "/")[:1] in {"/", "#", "?"}, (self._path, tag, given)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in {"li", "p", "td", "th", "tr"} or self._open[-1:] == [tag]:
            while self._open and self._open.pop() != tag:
                pass
            return
        raise AssertionError((self._path, tag, self._open))
