"""The document as a file, and the command that makes it."""

from __future__ import annotations

import re
import stat
import sys
import zlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from polyward_server.cli.app import app
from polyward_server.hub import Hub
from polyward_server.report.writing import write_report
from polyward_shared.problems import Problem
from polyward_shared.study import read_study
from tests.server.report.paging import Page, facts_of


def test_pdf_has_pages_a_title_and_the_time_of_the_last_event(brief: Hub, tmp_path: Path) -> None:
    facts = facts_of(brief)
    write_report(facts, tmp_path / "one.pdf")
    data = (tmp_path / "one.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    objects = b"".join(map(zlib.decompress, re.findall(rb"/FlateDecode.*?stream\n(.*?)\nendstream", data, re.S)))
    assert len(re.findall(rb"/Type\s*/Page\b", objects)) > 5
    assert b"/Title (Interim report: breast-demo)" in objects
    last = re.sub(r"\D", "", facts.events[-1].at)[:14].encode()
    assert b"/CreationDate (D:" + last in objects
    assert re.search(rb"/MarkInfo\s*<<\s*/Marked true", objects)  # tagged, for those who are read it
    write_report(facts_of(brief), tmp_path / "two.pdf")
    assert (tmp_path / "two.pdf").read_bytes() == data


def test_without_its_library_pdf_is_refused_and_nothing_is_written(
    brief: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)  # what an installation without the extra looks like
    with pytest.raises(Problem, match="PDF cannot be made here") as raised:
        write_report(facts_of(brief), tmp_path / "report.pdf")
    assert "print it from a browser" in raised.value.remedy
    assert list(tmp_path.glob("*.pdf")) == []


def test_the_command_writes_one_file_for_its_owner_alone(
    told: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["report", str(told.folder), "breast-demo"], catch_exceptions=False)
    assert result.exit_code == 0
    target = tmp_path / "breast-demo-report.html"
    assert str(target.name) in result.output
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    text = target.read_text()
    [settings] = re.findall(r"<pre[^>]*>(.*?)</pre>", text, re.S)
    (tmp_path / "again.toml").write_text(Page(f"<p>{settings}</p>").text)
    assert read_study(tmp_path / "again.toml").digest() == facts_of(told).digest
    digest = facts_of(told).digest
    again = CliRunner().invoke(
        app, ["report", str(told.folder), digest[:8], "--output", "named.html", "--names"], catch_exceptions=False
    )
    assert again.exit_code == 0
    assert "uppsala" in (tmp_path / "named.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(["breast-demo", "--output", "report.doc"], "ends in .html or .pdf"), (["other"], "no study here is called so")],
)
def test_mistakes_are_named(told: Hub, tmp_path: Path, arguments: list[str], why: str) -> None:
    with pytest.raises(Problem, match=re.escape(why)):
        CliRunner().invoke(app, ["report", str(told.folder), *arguments], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []
