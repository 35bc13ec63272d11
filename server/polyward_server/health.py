"""Whether a hub answers: `python -m polyward_server.health HUB`, asked every few seconds inside its container.

It imports next to nothing, and shows each port of the hub no more than the beginning of a connection.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 3.0
TLS = {"port": "orders and enrolment", "dashboard_port": "the dashboard"}
TCP = {"control_port": "the control plane"}  # which writes a line for everybody without a certificate


def ailing(settings: Mapping[str, Any]) -> list[str]:
    """What of a hub with these settings of hub.toml does not answer on this machine."""
    address = "::1" if ":" in os.environ.get("POLYWARD_LISTEN", "") else "127.0.0.1"
    ports = {key: (address, int(settings.get(key, 8445))) for key in TLS | TCP}
    return [what for key, what in (TLS | TCP).items() if not _answers(ports[key], speaks_tls=key in TLS)]


def _answers(place: tuple[str, int], *, speaks_tls: bool) -> bool:
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname = False
    nobody.verify_mode = ssl.CERT_NONE  # that it speaks TLS is all that is asked
    try:
        with socket.create_connection(place, ANSWER_SECONDS) as plain:
            if speaks_tls:
                nobody.wrap_socket(plain).close()
            return True
    except OSError:
        return False


def main() -> int:
    settings = tomllib.loads((Path(sys.argv[1]) / "hub.toml").read_text(encoding="utf-8"))
    silent = ailing(settings)
    for what in silent:
        print(f"no answer: {what}")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
