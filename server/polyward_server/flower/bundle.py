"""The bundle of a run: Flower wants one for every run, ours holds its configuration file and no code.

It is made in memory, so that an installed package needs no file beside it.
"""

import io
import zipfile
from hashlib import sha256

BUNDLE = """\
[project]
name = "polyward-federation"
version = "0.1.0"
description = "Run configuration only: the code is installed on every node."
license = "Apache-2.0"
dependencies = ["flwr>=1.41,<1.42"]
[tool.flwr.app]
publisher = "polyward"
[tool.flwr.app.components]
serverapp = "polyward_server.nothing:app"
clientapp = "polyward_client.nothing:app"
[tool.flwr.app.config]
mark = "{mark}"
"""


def code_free_bundle(mark: str) -> bytes:
    """Return a Flower bundle that holds its configuration file and nothing else; the mark makes it unique."""
    text = BUNDLE.format(mark=mark)
    listing = f"pyproject.toml,{sha256(text.encode()).hexdigest()},{8 * len(text.encode())}"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        bundle.writestr("pyproject.toml", text)
        bundle.writestr(".info/CONTENT", listing)
    return packed.getvalue()
