"""A report as a program reads it: its tables by caption, its text, its tags and its links."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

from polyward_server.hub import Hub
from polyward_server.ledger import Ledger
from polyward_server.records import State
from polyward_server.report.reading import Facts, read_facts
from polyward_server.report.writing import page
from polyward_server.roster import Roster

VOID = {"meta", "br"}


@dataclass
class Table:
    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)

    def cell(self, row: str, column: str) -> str:
        """The cell in the row that begins with `row`, under the heading `column`."""
        [found] = [each for each in self.rows[1:] if each[0] == row]
        return found[self.rows[0].index(column)]


class Page(HTMLParser):
    """What is in the HTML. Every tag is closed, or the parser raises."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "xlink:href"}]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr":
            self.tables[-1].rows.append([])
        elif tag in {"th", "td"}:
            self.tables[-1].rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in {"th", "td"}:
            self.tables[-1].rows[-1][-1] = " ".join(self.tables[-1].rows[-1][-1].split())

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "caption" in self._open:
            self.tables[-1].caption += data
        elif {"th", "td"} & set(self._open):
            self.tables[-1].rows[-1][-1] += data

    def table(self, caption: str) -> Table:
        """The one table whose caption begins so."""
        [found] = [each for each in self.tables if each.caption.startswith(caption)]
        return found


def facts_of(hub: Hub, *, named: bool = False, exact: bool = False) -> Facts:
    ledger = Ledger(hub.ledger)
    [digest] = ledger.studies_in(*State)
    facts = read_facts(ledger, Roster(ledger), hub.file.name, digest, 'id = "breast-demo"\n', named=named, exact=exact)
    ledger.close()
    return facts


def page_of(hub: Hub, *, named: bool = False, exact: bool = False) -> Page:
    return Page(page(facts_of(hub, named=named, exact=exact)))
