"""What all tests have in common."""

from __future__ import annotations

import os

# gRPC would start a thread in every copy of a test's process; a process with several may make no user namespace, which
# the copies in `tests/client/test_isolation.py` are there for
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
