"""The fuzzing, small: every parser refuses what it must as it says, or reads it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.fuzz import Tally, fuzz
from tests.attacks.parsers import Parser, all_parsers

EXAMPLES = 60
NAMES = [
    *("study, text", "study, values", "site, text", "site, values", "manifest", "chain", "state, file", "state, bytes"),
    *("schema", "approval", "decisions", "order, records", "report, records", "order, objects", "report, objects"),
    *("codec", "invitation", "control, hub", "request (PKCS#10)", "reception", "door", "door, replies"),
    *("receipts, hub", "receipts, site", "control, gate", "certificate", "port"),
]


@pytest.fixture(scope="module")
def parsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Parser]]:
    with all_parsers(tmp_path_factory.mktemp("fuzz")) as made:
        yield {parser.name: parser for parser in made}


def test_every_parser_is_fuzzed(parsers: dict[str, Parser]) -> None:
    assert list(parsers) == NAMES


@pytest.mark.filterwarnings("ignore")  # what a library thinks of an odd input is not ours to say
@pytest.mark.parametrize("name", NAMES)
def test_a_parser_reads_or_refuses(parsers: dict[str, Parser], name: str) -> None:
    tally = Tally()
    fuzz(parsers[name], EXAMPLES, 0, tally)
    assert tally.tried >= EXAMPLES // 2
    assert tally.refused
