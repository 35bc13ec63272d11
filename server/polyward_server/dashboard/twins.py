"""The panels for programs: the JSON twin of each, described by OpenAPI, and its rows as CSV."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from polyward_server.dashboard.guard import Needs
from polyward_server.dashboard.panels import HUB_PANELS, STUDY_PANELS, Panel, as_csv, chosen
from polyward_shared.reading import Frozen


def router() -> APIRouter:
    """Two routes for each panel."""
    made = APIRouter(tags=["panels"])
    for panel in (panel for page in HUB_PANELS.values() for panel in page):
        _add_of_hub(made, panel)
    for panel in STUDY_PANELS:
        _add_of_study(made, panel)
    return made


def _add_of_hub(router: APIRouter, panel: Panel) -> None:
    def as_json(request: Request) -> Any:
        return _read(request, panel, "")

    def as_table(request: Request) -> Response:
        return _table(panel.name, _read(request, panel, ""))

    _route(router, panel, f"/api/{panel.name}", as_json, as_table)


def _add_of_study(router: APIRouter, panel: Panel) -> None:
    def as_json(request: Request, study: str) -> Any:
        return _read(request, panel, study)

    def as_table(request: Request, study: str) -> Response:
        return _table(f"{study[:12]}-{panel.name}", _read(request, panel, study))

    _route(router, panel, f"/api/studies/{{study}}/{panel.name}", as_json, as_table)


def _route(router: APIRouter, panel: Panel, where: str, as_json: Any, as_table: Any) -> None:
    table = {"text/csv": {"schema": {"type": "string"}}}
    needs = [Depends(Needs(panel.role))]
    choices = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in panel.choices]
    described = {"parameters": choices} if choices else None
    router.add_api_route(
        f"{where}.csv",
        as_table,
        dependencies=needs,
        summary=f"{panel.title} as CSV",
        response_class=Response,
        responses={200: {"content": table}},
        openapi_extra=described,
    )
    router.add_api_route(
        where,
        as_json,
        dependencies=needs,
        summary=panel.title,
        response_model=panel.model,
        openapi_extra=described,
    )


def _read(request: Request, panel: Panel, study: str) -> Frozen:
    return panel.read(request.app.state.desk, study, **chosen(panel, request.query_params))


def _table(name: str, view: Frozen) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
    return Response(as_csv(view), media_type="text/csv; charset=utf-8", headers=headers)
