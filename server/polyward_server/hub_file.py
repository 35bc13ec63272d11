"""`hub.toml`: what a hub's people settle once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from polyward_server.people.users import Role
from polyward_shared.invitation import Address
from polyward_shared.reading import Frozen

Port = Annotated[int, Field(ge=1, le=65535)]

TEMPLATE = """\
# The hub. `polyward-hub serve {folder}` reads this file.
name = {name}
host = {host}          # the address that sites reach; bound on this machine
port = {port}            # orders, updates, enrolment
control_port = {control_port}    # progress, commands, renewal of certificates
private_port = {private_port}    # loopback only: Flower's other APIs, behind a secret
dashboard_host = {dashboard_host}  # where the dashboard listens; "127.0.0.1" is for this machine alone
dashboard_port = {dashboard_port}   # https://{host_shown}:{dashboard_port}
# dashboard_certificate = "/etc/ssl/hub.pem"  # one that your browsers trust, with its key; the hub's own otherwise
# dashboard_key = "/etc/ssl/private/hub.key"
# dashboard_names = ["polyward.hospital.example"]  # under which browsers reach it, beside those in its certificate
# database = "postgresql://polyward@db.example.org/polyward"  # its password: secrets/database; ledger.db otherwise
gateway = {gateway}         # host:port that sites use instead of both, such as hub.example.org:443; see deploy/gateway
certificate_days = {certificate_days}  # how long a site's certificate is good; it renews itself at half of that

[retention]               # what `polyward-hub prune` leaves
keep_rounds = "all"       # or a number: the newest rounds' states of each study that has ended
sign_ins_days = 30.0      # how long it is remembered who signed in on the dashboard, or failed to

# [oidc]                    # people sign in at your OpenID provider; the client's secret: secrets/oidc
# issuer = "https://login.hospital.example/realms/staff"
# client_id = "polyward"    # its redirect address: https://NAME:PORT/sign-in/back
# role_claim = "groups"     # what of its answer says the role
# [oidc.roles]
# "polyward-admins" = "admin"
"""


class OpenId(Frozen):
    """The `[oidc]` of `hub.toml`: who vouches for people, and which role each value of a claim gives.

    Claims within claims are named with dots, such as `realm_access.roles`.
    """

    issuer: str = Field(max_length=500, pattern=r"^https://[^\s?#]+$")
    client_id: str = Field(min_length=1, max_length=200)
    name_claim: str = Field(default="preferred_username", min_length=1, max_length=100)
    role_claim: str = Field(default="groups", min_length=1, max_length=100)
    roles: dict[str, Role] = Field(min_length=1)
    authority: Path | None = None  # its certificate's, where that is not one of the well-known


class Retention(Frozen):
    """The `[retention]` of `hub.toml`: what is kept when `polyward-hub prune` is told to make room."""

    keep_rounds: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    sign_ins_days: float = Field(default=30.0, ge=1)


class HubFile(Frozen):
    """`hub.toml` as written."""

    name: str = Field(min_length=1, max_length=60)
    host: str = Field(min_length=1, max_length=253)
    port: Port
    control_port: Port
    private_port: Port
    dashboard_host: str = Field(default="127.0.0.1", min_length=1, max_length=253)
    dashboard_port: Port = 8445
    dashboard_certificate: Path | None = None
    dashboard_key: Path | None = None
    dashboard_names: tuple[str, ...] = ()
    database: str = Field(default="", max_length=500, pattern=r"^(|postgresql://[^\s:@]+@.+)$")
    gateway: Address | Literal[""] = ""
    certificate_days: float = Field(default=14.0, gt=0, le=397)
    retention: Retention = Retention()
    oidc: OpenId | None = None
