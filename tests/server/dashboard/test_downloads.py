"""What people take away: the file is what sites approve, the report is one document without names."""

from __future__ import annotations

from polyward_server.records import State
from tests.support.dashboard import Served
from tests.support.story import SITES


def test_the_report_tells_the_study_and_names_nobody(dashboard: Served) -> None:
    [digest] = dashboard.ledger.studies_in(State.RUNNING)
    with dashboard.browser("viewer") as page:
        answer = page.get(f"/studies/{digest}/report.html")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="breast-demo-report.html"'
    assert digest in answer.text
    assert "site A" in answer.text
    assert not [name for name in SITES if name in answer.text]


def test_there_is_no_report_of_a_study_that_is_not_here(dashboard: Served) -> None:
    with dashboard.browser("viewer") as page:
        assert page.get(f"/studies/{'0' * 64}/report.html").status_code == 404
        assert page.get(f"/studies/{'0' * 64}/study.toml").status_code == 404
