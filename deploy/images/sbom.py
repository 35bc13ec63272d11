"""An image's bill of materials: what cyclonedx-py found of Python, and Debian's packages out of a dpkg status file.

    python sbom.py IMAGE VERSION STATUS OS_RELEASE [PYTHON.cdx.json] > sbom.cdx.json

The same packages give the same bytes: no time, no serial number, everything sorted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote


def main(image: str, version: str, status: str, os_release: str, python: str = "") -> None:
    found: dict[str, Any] = json.loads(Path(python).read_text()) if python else {}
    components = [part for part in found.get("components", ()) if part["name"] != "polyward"]
    known = {part["bom-ref"] for part in components}
    depends = [part for part in found.get("dependencies", ()) if part["ref"] in known]
    for part in depends:
        part["dependsOn"] = sorted(known.intersection(part.get("dependsOn", ())))
    components += debian(Path(status).read_text(), release(Path(os_release).read_text()))
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": image, "name": image, "version": version}},
        "components": sorted(components, key=lambda part: part["bom-ref"]),
        "dependencies": sorted(depends, key=lambda part: part["ref"]),
    }
    json.dump(bill, sys.stdout, indent=1, sort_keys=True)


def release(text: str) -> str:
    """`debian-12` of an os-release file."""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return "-".join(fields.get(key, "").strip('"') for key in ("ID", "VERSION_ID")).strip("-")


def debian(status: str, distribution: str) -> Iterator[dict[str, Any]]:
    """The installed packages of a dpkg status file, as CycloneDX components."""
    for stanza in status.split("\n\n"):
        package = HeaderParser().parsestr(stanza)
        if not package["Status"] or not package["Status"].endswith(" installed"):
            continue
        name, version, architecture = package["Package"], package["Version"], package["Architecture"]
        address = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={architecture}&distro={distribution}"
        yield {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}


if __name__ == "__main__":
    main(*sys.argv[1:])
