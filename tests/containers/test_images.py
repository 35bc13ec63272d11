"""The images as they are delivered: what is in them, what is not, and that they run as anybody, writing nothing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = [pytest.mark.slow, pytest.mark.containers]

version = importlib.metadata.version("polyward")
PYTHON_IMAGES = ("hub", "gate", "trainer")
IMAGES = (*PYTHON_IMAGES, "gateway")
SEALED = ("--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL")  # noqa: S108
ANYBODY = ("--user", "4242:4242")
BILL = "/usr/share/polyward/sbom.cdx.json"
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(*sorted({"torch", "monai", "setuptools"} & set(sys.modules)))
"""


def tag(name: str) -> str:
    return f"polyward-{name}:{version}"


def shell(engine: Engine, name: str, command: str) -> str:
    return engine.docker("run", *SEALED, *ANYBODY, "--entrypoint", "sh", tag(name), "-c", command)


def python(engine: Engine, name: str, program: str, *arguments: str) -> str:
    return engine.docker(
        "run", *SEALED, *ANYBODY, "--entrypoint", "python", tag(name), "-W", "ignore", "-c", program, *arguments
    )


@pytest.mark.parametrize("name", IMAGES)
def test_nobody_is_root_and_labels_say_what_it_is(images: Engine, name: str) -> None:
    config = images.client.images.get(tag(name)).attrs["Config"]
    assert config["User"] == "10001:10001"
    label = config["Labels"]
    assert label["org.opencontainers.image.title"] == f"polyward-{name}"
    assert label["org.opencontainers.image.version"] == version
    assert label["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert label["org.opencontainers.image.base.name"]
    assert label["org.opencontainers.image.description"]
    assert label["org.polyward.sbom"] == BILL


@pytest.mark.parametrize("name", IMAGES)
def test_there_is_nothing_to_install_programs_with(images: Engine, name: str) -> None:
    found = shell(
        images,
        name,
        "for tool in pip pip3 uv gcc; do command -v $tool; done; ls /opt/polyward/lib/*/* 2>/dev/null || true",
    )
    lines = found.splitlines()
    assert not [line for line in lines if line.startswith("/")]
    assert not {"pip", "setuptools", "uv"}.intersection(lines)


@pytest.mark.parametrize("name", ["hub", "gate"])
def test_no_torch_where_no_images_are(images: Engine, name: str) -> None:
    installed = shell(images, name, "ls /opt/polyward/lib/python3*/site-packages").split()
    assert "flwr" in installed
    assert not {"torch", "monai", "nibabel", "pydicom"}.intersection(installed)


def test_the_gate_reads_no_pictures_and_has_the_proxy(images: Engine) -> None:
    installed = shell(images, "gate", "ls /opt/polyward/lib/python3*/site-packages").split()
    assert not {"PIL", "pandas", "matplotlib", "scipy"}.intersection(installed)
    assert shell(images, "gate", "tinyproxy -v").startswith("tinyproxy 1.")


@pytest.mark.parametrize(
    ("name", "packages", "loaded"),
    [
        (
            "hub",
            ("polyward_server.cli", "polyward_server.dashboard", "polyward_server.flower", "polyward_server.hub"),
            "",
        ),
        ("gate", ("polyward_client.gate", "polyward_client.cli"), ""),
        ("trainer", ("polyward_client.trainer", "polyward_client.parts", "polyward_deploy.hospitals"), "monai torch"),
    ],
)
def test_every_module_of_an_image_finds_what_it_imports(
    images: Engine, name: str, packages: tuple[str, ...], loaded: str
) -> None:
    assert python(images, name, IMPORT_ALL, *packages).splitlines()[-1] == loaded


def test_the_trainers_torch_is_for_processors(images: Engine) -> None:
    said = python(images, "trainer", "import torch; print(torch.__version__, torch.version.cuda, torch.ones(3).sum())")
    assert said.split() == ["2.13.0+cpu", "None", "tensor(3.)"]


@pytest.mark.parametrize("name", PYTHON_IMAGES)
def test_everything_is_compiled_and_never_checked_against_the_clock(images: Engine, name: str) -> None:
    program = """
import importlib.util, pathlib, polyward_shared
folder = pathlib.Path(polyward_shared.__file__).parent
for path in folder.rglob("*.py"):
    compiled = pathlib.Path(importlib.util.cache_from_source(str(path)))
    assert compiled.read_bytes()[4:8] == b"\\1\\0\\0\\0", path  # PEP 552: by hash, unchecked
print(len(list(folder.rglob("*.py"))))
"""
    assert int(python(images, name, program)) > 20


@pytest.mark.parametrize("name", IMAGES)
def test_the_bill_lists_what_is_installed(images: Engine, name: str) -> None:
    bill = json.loads(shell(images, name, f"cat {BILL}"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = {part["purl"].split("?")[0]: part["version"] for part in bill["components"]}
    packages = shell(images, name, "dpkg-query --show --showformat '${Package} ${Version}\\n'").splitlines()
    debian = {part["name"]: part["version"] for part in bill["components"] if part["purl"].startswith("pkg:deb/")}
    assert debian == dict(line.split(" ") for line in packages)
    assert "libc6" in debian
    if name in PYTHON_IMAGES:
        flwr = importlib.metadata.version("flwr")
        assert listed[f"pkg:pypi/flwr@{flwr}"] == flwr
    if name == "trainer":
        assert any(address.startswith("pkg:pypi/torch@2.13.0") for address in listed)
    references = [part["bom-ref"] for part in bill["components"]]
    assert len(set(references)) == len(references)


def test_the_gateway_starts_for_anybody_and_takes_nothing_but_addresses(images: Engine) -> None:
    assert "test is successful" in _gateway(images, "hub.example.org:8443").stderr
    refused = _gateway(images, "hub:8443; include /etc/passwd")
    assert refused.returncode == 2
    assert "POLYWARD_GATEWAY_FLEET" in refused.stderr


def _gateway(engine: Engine, fleet: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "--host", engine.address, "run", *SEALED, *ANYBODY]
    command += ["--env", f"POLYWARD_GATEWAY_FLEET={fleet}", tag("gateway"), "-t"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.whole
def test_a_second_build_without_any_memory_gives_the_same_packages_and_code(images: Engine) -> None:
    """The layers that we make, of the gate: its packages, the code, the bill. Three minutes on two processors.

    Another spelling of PyPI makes the engine forget: with --no-cache, later builds would go on from what this one left.
    """
    context = ["pyproject.toml", "README.md", "shared", "server", "client", "deploy"]
    packed = subprocess.run(
        ["tar", "--create", "--exclude", "__pycache__", "--mtime", "@0", *context],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
    ).stdout
    once, again = "polyward-images-test:once", "polyward-images-test:again"
    try:
        assert build_gate(images, again, packed, "--build-arg", "PIP_INDEX_URL=https://pypi.org/simple/") == build_gate(
            images, once, packed
        )
    finally:
        for name in (once, again):
            images.docker("image", "rm", name, check=False)


def build_gate(engine: Engine, name: str, context: bytes, *options: str) -> list[str]:
    """Its packages, code and bill: the last three layers."""
    base = engine.client.images.get(tag("gate")).labels["org.opencontainers.image.base.name"]
    command = ["docker", "--host", engine.address, "build", "--file", "deploy/images/Dockerfile", "--target", "gate"]
    command += ["--tag", name, "--build-arg", f"BASE_IMAGE={base}", "--build-arg", f"VERSION={version}", *options, "-"]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    subprocess.run(command, input=context, env=environment, capture_output=True, check=True, timeout=1200)
    layers: list[str] = engine.client.images.get(name).attrs["RootFS"]["Layers"]
    return layers[-3:]


def test_sizes(images: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {name: images.client.images.get(tag(name)).attrs["Size"] / 1e6 for name in IMAGES}
    with capsys.disabled():
        print(*(f"{name} {size:.0f} MB" for name, size in sizes.items()), sep=", ")
    assert sizes["gateway"] < 150
    assert sizes["gate"] < 450
    assert sizes["hub"] < 700
    assert sizes["trainer"] < 1700
