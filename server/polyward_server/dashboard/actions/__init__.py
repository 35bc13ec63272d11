"""What people do on the dashboard, each action once here and with its event where it is done: never in a page."""

from __future__ import annotations

from polyward_server.dashboard.actions import encoders, proposals, record, sites, studies

ROUTERS = (sites.router, studies.router, encoders.router, record.router, proposals.router)
