"""`python -m tests.containers`: the engine is started, the images are built, the tests run, the engine ends.

Those that start the engine anew, or time what happens, come last and by themselves. Nothing of this runs beside the
tests of pages: a container that comes or goes changes the machine's network, and Chromium then ends what it loads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from tests.containers.deployed import build_images
from tests.support.engine import Engine, missing

SIDE_BY_SIDE = ["-n", "2", "--dist", "loadfile", "-m", "containers and not alone and not whole"]
ALONE = ["-m", "containers and alone and not whole"]


def main() -> int:
    """The exit code: of the first tests that fail."""
    if reason := missing():
        print(f"the tests with containers are left out: {reason}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    engine = Engine()
    ours = engine.start()
    try:
        began = time.monotonic()
        build_images(engine)
        print(f"the images are there after {time.monotonic() - began:.0f} s", flush=True)
        for chosen in (SIDE_BY_SIDE, ALONE):
            pytest = [sys.executable, "-m", "pytest", "-q", "--durations", "12", "tests/containers", *chosen]
            if code := subprocess.run(pytest, check=False).returncode:
                return code
        return 0
    finally:
        engine.client.close()
        if ours:
            engine.stop()


if __name__ == "__main__":
    sys.exit(main())
