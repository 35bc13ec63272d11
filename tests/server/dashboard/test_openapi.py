"""The JSON side against its own description: whatever is sent, nothing breaks, and answers are as described."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.dashboard import Served

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def test_every_operation_answers_as_described(dashboard: Served) -> None:
    _ask_all(dashboard, "admin", GenerationMode.POSITIVE, 2)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_every_operation_answers_as_described_however_it_is_asked(
    dashboard: Served, role: str, mode: GenerationMode
) -> None:
    _ask_all(dashboard, role, mode, 8)


def _ask_all(dashboard: Served, role: str, mode: GenerationMode, times: int) -> None:
    """Asks each operation so many times, with what its description allows, or with what it does not."""
    with dashboard.browser(role) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    asked = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @settings(max_examples=times, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            asked.add(case.operation.label)
            with dashboard.browser(role) as client:  # a session of its own: some operations end it
                case.call_and_validate(
                    base_url=dashboard.url,
                    headers={"origin": dashboard.url, "x-token": client.headers["x-token"]},
                    cookies=dict(client.cookies),
                    verify=str(dashboard.hub.ca),
                    checks=CHECKS,
                )

        try:
            ask()
        except Unsatisfiable:
            continue  # nothing wrong can be sent where nothing is sent
    assert len(asked) > 10
