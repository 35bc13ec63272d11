"""What documents name must exist: files, and the tests that prove a promise."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("*/*/*.md")]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def named() -> list[tuple[str, str, str]]:
    return sorted(
        {
            (document.relative_to(ROOT).as_posix(), *found)
            for document in DOCUMENTS
            for found in NAMED.findall(document.read_text(encoding="utf-8"))
        }
    )


@pytest.mark.parametrize(("document", "file", "test"), named())
def test_a_test_that_a_document_names_is_there(document: str, file: str, test: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not test or test in tests, f"{document} names {test}"


def test_the_security_page_names_a_test_for_each_promise() -> None:
    text = (ROOT / "deploy" / "SECURITY.md").read_text(encoding="utf-8")
    promises = text.split("## Promises and their tests")[1].split("\n## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) > 10
    for row in rows:
        assert NAMED.search(row), row
