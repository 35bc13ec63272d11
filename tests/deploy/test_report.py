"""The page: complete, self-contained, honest about what is absent, and unmoved by hostile names."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from polyward_deploy.report import page, write_report
from polyward_deploy.results import ABSENT, Choice, shown, table
from tests.deploy.sample import ALPHA, HOSTILE, measured, sample

VOID = {"meta", "link", "br", "wbr", "img", "input", "hr"}


class Reader(HTMLParser):
    """Elements with their attributes, the text of each table row, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.texts.append(data)
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return page(sample())


def test_every_cell_of_the_table_is_on_the_page(text: str) -> None:
    rows = [row for row in Reader(text).rows if len(row) == 6]
    assert rows[0] == ["Task", "Cases", "Local only", "Federated", "Full FedAvg", "Gain"]
    cells = table(sample())
    assert len(rows) == 1 + len(cells)
    for row, cell in zip(rows[1:], cells, strict=True):
        assert row[0].startswith(cell.task)
        assert row[5] == shown(cell.gain, cell.digits, signed=True)
        for shown_value, arm in zip(row[2:5], ("local", "federated", "fedavg"), strict=True):
            value = cell.values[arm].value if arm in cell.values else None  # type: ignore[index]
            assert shown_value.startswith(shown(value, cell.digits))


def test_measured_intervals_stand_in_brackets_behind_their_figures(text: str) -> None:
    rows = [row for row in Reader(page(measured(sample()))).rows if len(row) == 6]
    assert rows[1][2:5] == ["0.700", "0.800 [0.625, 0.875]", "0.750"]
    assert rows[5][2:5] == ["0.5000.28 to 0.72", "0.625 [0.500, 0.750]", ABSENT], "a rough one stays below its figure"
    assert "[" not in "".join(cell for row in Reader(text).rows for cell in row)


def test_brackets_and_bars_are_explained_where_there_are_any(text: str) -> None:
    bounded = page(measured(sample()))
    assert "drawing its patients anew 100 times" in bounded
    assert "drawing its patients anew" not in text
    assert "bar: interval" in bounded
    assert "bar: interval" not in text


def test_measured_intervals_are_bars_in_the_plots() -> None:
    bars = [plot.count("LineCollection") for plot in re.findall(r"<svg role.*?</svg>", page(measured(sample())), re.S)]
    assert bars == [0, 1, 0, 1], "gain, lesion, size, outline"
    plain = [plot.count("LineCollection") for plot in re.findall(r"<svg role.*?</svg>", page(sample()), re.S)]
    assert plain == [0, 0, 0, 0]


def test_absent_is_a_dash_and_not_a_zero(text: str) -> None:
    empty = [row for row in Reader(text).rows if len(row) == 6][4]
    assert empty[1:] == [ABSENT] * 5


def test_the_page_asks_nothing_of_the_network(text: str) -> None:
    assert "://" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    reader = Reader(text)
    assert not reader.named("script")
    assert not reader.named("img")
    for _, attributes in reader.elements:
        assert (attributes.get("href") or "#").startswith(("#", "data:"))
        assert "src" not in attributes
        assert (attributes.get("xlink:href") or "#").startswith("#")


def test_ids_are_unique_and_references_lead_somewhere(text: str) -> None:
    reader = Reader(text)
    ids = [attributes["id"] for _, attributes in reader.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', text))
    assert wanted <= set(ids)


def test_what_a_site_keeps_is_marked_and_explained(text: str) -> None:
    marked = page(sample().model_copy(update={"kept": (Choice(ALPHA, "lesion", "alone"),)}))
    assert [row for row in Reader(marked).rows if len(row) == 6][1][5] == "+0.100†"
    assert "† the site keeps the model that it trained alone." in marked
    assert "†" not in text


def test_hostile_names_stay_text() -> None:
    text = page(sample(first=HOSTILE))
    reader = Reader(text)
    assert not reader.named("script")
    assert any(row == [HOSTILE] for row in reader.rows)
    assert any(HOSTILE in (svg.get("aria-label") or "") for svg in reader.named("svg"))
    known = {name for name, _ in Reader(page(sample())).elements}
    assert {name for name, _ in reader.elements} == known


def test_plots_say_in_words_what_they_show(text: str) -> None:
    plots = [svg for svg in Reader(text).named("svg") if svg.get("role") == "img"]
    labels = [svg["aria-label"] or "" for svg in plots]
    assert len(labels) == 4, "gain, and a curve for each of three tasks"
    assert f"{ALPHA} lesion +0.100" in labels[0]
    assert f"{ALPHA} size \N{MINUS SIGN}2.00" in labels[0]
    assert "higher is better" in labels[1]
    assert "lower is better" in labels[2]


def test_colours_come_from_the_theme_alone(text: str) -> None:
    plots = "".join(re.findall(r'<svg role="img".*?</svg>', text, re.DOTALL))
    assert "var(--series-1)" in plots
    assert not re.search(r"(?:fill|stroke): #", plots.replace("fill: #ffffff; opacity: 0", ""))
    for variable in set(re.findall(r"var\((--[a-z0-9-]+)\)", text)):
        assert f"{variable}:" in text
    assert "prefers-color-scheme: dark" in text


def test_tables_have_headers_with_scope(text: str) -> None:
    headers = Reader(text).named("th")
    assert headers
    assert {header.get("scope") for header in headers} == {"col", "row", "rowgroup"}


def test_generated_data_are_announced(text: str) -> None:
    assert "They stand for no patients" in text
    assert "They stand for no patients" not in page(sample(generated=False))


def test_rounds_with_bytes_and_digests(text: str) -> None:
    rows = Reader(text).rows
    assert ["1", "3.0", "2.0 MB", "1.5 kB", "b" * 16] in rows
    assert ["0", "0.5", ABSENT, ABSENT, "a" * 16] in rows
    assert ["1", "1.2", ABSENT, ABSENT, "one per site"] in rows


def test_the_study_is_there_in_full(text: str) -> None:
    assert sample().study.digest() in text
    assert "branch_learning_rate" in text
    assert "1 March 2026, 10:20 UTC, 1 min 15 s" in "".join(Reader(text).texts)


def test_results_without_figures_still_make_a_page() -> None:
    bare = sample().model_copy(update={"rows": (), "turns": ()})
    text = page(bare)
    assert "No cell can be compared" in text
    assert "Round by round" not in text


def test_same_results_same_bytes(tmp_path: Path) -> None:
    first, second = write_report(tmp_path / "a", sample()), write_report(tmp_path / "b", sample())
    assert first.name == "report.html"
    assert first.read_bytes() == second.read_bytes()
