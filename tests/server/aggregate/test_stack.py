"""Rows on the disk: what is read is what was added, whoever came first, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyward_server.aggregate import stack as stack_module
from polyward_server.aggregate.stack import Stack, inner_products
from tests.server.aggregate.stacking import random_rows, stacked


def vector(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_by_hand(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "new" / "folder", 3)
    stack.add("b", vector(3, 1, 1), vector(1, 1, 1))
    stack.add("a", vector(1, 2, 3), vector(1, 0, 0), 0.5)
    assert stack.sites == ("a", "b")
    assert stack.gram().tolist() == [[1 + 2.25, 0], [0, 4]]
    assert stack.combined(np.array([2.0, 1.0])).tolist() == [2, 2, 3]
    assert stack.row("a", slice(1, 3)).tolist() == [1, 1.5]
    [(where, rows)] = stack.blocks()
    assert (where, rows.tolist()) == (slice(0, 3), [[0, 1, 1.5], [2, 0, 0]])


def test_a_second_row_takes_the_first_ones_place(tmp_path: Path) -> None:
    stack = Stack(tmp_path, 2)
    stack.add("a", vector(1, 2), vector(0, 0), 0.5)
    assert stack.gram().tolist() == [[1.25]]
    stack.add("a", vector(3, 4), vector(0, 0))
    assert stack.gram().tolist() == [[25]]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_row_is_shortened_in_everything_that_is_read(tmp_path: Path) -> None:
    stack = Stack(tmp_path, 2)
    stack.add("a", vector(2, 4), vector(0, 0), 0.5)
    assert stack.gram().tolist() == [[5]]
    stack.shorten("a", 0.5)
    assert stack.gram().tolist() == [[1.25]]
    assert stack.row("a").tolist() == stack.combined(np.ones(1)).tolist() == [0.5, 1]


def test_files_are_named_by_numbers_and_go_with_the_stack(tmp_path: Path) -> None:
    (tmp_path / "7.row").write_bytes(b"of a round that was interrupted")
    stack = Stack(tmp_path, 1)
    for site in ("../escape", "a/b", "NUL", "é"):
        stack.add(site, vector(1), vector(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.row", "1.row", "2.row", "3.row"]
    stack.close()
    assert stack.sites == ()
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 2 values"):
        Stack(tmp_path, 2).add("a", vector(1), vector(0, 0))


def test_blocks_join(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(0, 3, 23)
    with stacked(rows) as stack:
        gram, combined = stack.gram(), stack.combined(np.array([1.0, -2.0, 3.0]))
    monkeypatch.setattr(stack_module, "BLOCK", 5)
    with stacked(rows) as stack:
        assert [where.stop for where, _ in stack.blocks()] == [5, 10, 15, 20, 23]
        assert stack.gram() == pytest.approx(gram, rel=1e-12)
        assert stack.combined(np.array([1.0, -2.0, 3.0])).tobytes() == combined.tobytes()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.permutations(range(4)))
def test_who_came_first_is_nothing(seed: int, order: list[int]) -> None:
    rows = random_rows(seed, 4)
    factors = np.array([0.3, 0.1, 0.4, 0.2])
    with stacked(rows) as stack, stacked({f"site{i}": rows[f"site{i}"] for i in order}) as other:
        assert other.gram().tobytes() == stack.gram().tobytes()
        assert other.combined(factors).tobytes() == stack.combined(factors).tobytes()


def test_inner_products_are_those_of_a_matrix_product() -> None:
    rows = np.random.default_rng(1).normal(size=(4, 50))
    found = inner_products(rows)
    assert found == pytest.approx(rows @ rows.T, rel=1e-12)
    assert (found == found.T).all()
