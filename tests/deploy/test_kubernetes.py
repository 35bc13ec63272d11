"""The Kubernetes manifests: valid, at one with themselves and the program, sealed, and open only where they say."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

import polyward_client.cli  # noqa: F401  # which adds its commands
import polyward_server.cli  # noqa: F401
from polyward_client.cli.app import app as node_app
from polyward_client.parts import PARTS, plan_of
from polyward_client.site import read_site
from polyward_server.cli.app import app as hub_app
from tests.deploy.kustomized import Resource, built, containers_of, pod_of
from tests.deploy.reachability import Peer, Pod, Policy, reaches
from tests.deploy.sealing import TMP, WRITABLE, faults

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
PROFILE = FOLDER / "node" / "trainer-seccomp.json"
NORTH, HUB, GPU = FOLDER / "north", FOLDER / "hub", FOLDER / "gpu"
BUILDS: dict[str, list[Resource]] = {
    "node": built(NORTH),
    "node with a GPU": built(NORTH, components=(GPU,)),
    "hub": built(HUB),
}
VERSIONS = ("1.30", kubernetes_validate.latest_version())
HUB_ADDRESS, ELSEWHERE = "203.0.113.10", "198.51.100.7"


def named(build: str, kind: str, name: str) -> Resource:
    (found,) = [each for each in BUILDS[build] if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("build", BUILDS)
def test_every_resource_is_what_kubernetes_takes(build: str, version: str) -> None:
    for resource in BUILDS[build]:
        kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize("build", BUILDS)
def test_all_is_sealed_and_every_name_leads_somewhere(build: str) -> None:
    assert faults(BUILDS[build]) == []


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every entry in a resource."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from leaves(inner, (*path, key))


def without(resources: list[Resource], path: tuple[Any, ...]) -> list[Resource]:
    changed = deepcopy(resources)
    holder: Any = changed
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return changed


SEALING = {
    "automountServiceAccountToken",
    "runAsNonRoot",
    "runAsUser",
    "fsGroupChangePolicy",
    "seccompProfile",
    "enableServiceLinks",
    "dnsPolicy",
    "nameservers",
    "allowPrivilegeEscalation",
    "readOnlyRootFilesystem",
    "capabilities",
    "drop",
    "readOnly",
    "limits",
    "affinity",
}


@pytest.mark.parametrize("build", BUILDS)
def test_a_setting_that_is_taken_away_is_missed(build: str) -> None:
    resources = BUILDS[build]
    pods = [at for at, resource in enumerate(resources) if pod_of(resource) is not None]
    places = [path for path in leaves(resources) if path[0] in pods and path[-1] in SEALING]
    assert {path[-1] for path in places} >= SEALING - ({"affinity", "nameservers", "dnsPolicy", "readOnly"})
    # a volume's own readOnly, or its mount's: for the images both are asked for
    assert [path for path in places if not faults(without(resources, path))] == []


def pod(build: str, name: str) -> Pod:
    (workload,) = [each for each in BUILDS[build] if each["metadata"]["name"] == name and pod_of(each) is not None]
    template = pod_of(workload)
    assert template is not None
    return Pod(template["metadata"]["labels"], workload["metadata"]["namespace"], {})


def policies(build: str) -> list[Policy]:
    return [each for each in BUILDS[build] if each["kind"] == "NetworkPolicy"]


TRAINER, DESK, GATE, ENROL, WAY = (pod("node", name) for name in ("trainer", "desk", "gate", "enrol", "way"))
THE_HUB, GATEWAY = pod("hub", "hub"), pod("hub", "gateway")
NAMES = Pod({"k8s-app": "kube-dns"}, "kube-system", {"kubernetes.io/metadata.name": "kube-system"})
STRANGER = Pod({"org.polyward.part": "gate"}, "default", {"kubernetes.io/metadata.name": "default"})
INGRESS = Pod({}, "ingress", {"org.polyward.dashboard": "reaches"})


@pytest.mark.parametrize(
    ("source", "target", "port", "protocol"),
    [
        (GATE, WAY, 3128, "TCP"),
        (ENROL, WAY, 3128, "TCP"),
        (WAY, HUB_ADDRESS, 443, "TCP"),
        (WAY, NAMES, 53, "UDP"),
        (WAY, NAMES, 53, "TCP"),
    ],
)
def test_what_a_node_can_reach(source: Peer, target: Peer, port: int, protocol: str) -> None:
    assert reaches(policies("node"), source, target, port, protocol)


@given(
    source=st.sampled_from([TRAINER, DESK, GATE, ENROL, WAY, STRANGER, ELSEWHERE]),
    target=st.one_of(
        st.sampled_from([TRAINER, DESK, GATE, ENROL, WAY, NAMES, STRANGER, HUB_ADDRESS]),
        st.ip_addresses(v=4).map(str),
    ),
    port=st.sampled_from([22, 53, 80, 443, 3128, 8443]),
    protocol=st.sampled_from(["TCP", "UDP"]),
)
def test_and_nothing_else(source: Peer, target: Peer, port: int, protocol: str) -> None:
    outside = isinstance(source, str) or source is STRANGER
    if outside and (isinstance(target, str) or target in (NAMES, STRANGER)):
        return  # none of ours
    allowed = (
        (source in (GATE, ENROL) and target is WAY and (port, protocol) == (3128, "TCP"))
        or (source is WAY and target is NAMES and port == 53)
        or (source is WAY and target == HUB_ADDRESS and (port, protocol) == (443, "TCP"))
    )
    assert reaches(policies("node"), source, target, port, protocol) == allowed


@pytest.mark.parametrize(
    ("source", "target", "port", "allowed"),
    [
        (ELSEWHERE, GATEWAY, 8443, True),
        (ELSEWHERE, GATEWAY, 8445, False),
        (ELSEWHERE, THE_HUB, 8443, False),
        (STRANGER, THE_HUB, 8445, False),
        (GATEWAY, THE_HUB, 8443, True),
        (GATEWAY, THE_HUB, 8444, True),
        (GATEWAY, THE_HUB, 8445, False),
        (GATEWAY, ELSEWHERE, 443, False),
        (INGRESS, THE_HUB, 8445, True),
        (INGRESS, THE_HUB, 8443, False),
        (THE_HUB, ELSEWHERE, 443, False),
    ],
)
def test_who_reaches_the_hub(source: Peer, target: Peer, port: int, *, allowed: bool) -> None:
    assert reaches(policies("hub"), source, target, port) == allowed


@pytest.mark.parametrize("policy", ["nothing", "gate-to-way", "way-from-gate", "way-to-names", "way-to-hub"])
def test_each_policy_is_needed(policy: str) -> None:
    ways: list[tuple[Peer, Peer, int]] = [
        (GATE, WAY, 3128),
        (WAY, HUB_ADDRESS, 443),
        (WAY, NAMES, 53),
        (TRAINER, ELSEWHERE, 443),
    ]
    fewer = [each for each in policies("node") if each["metadata"]["name"] != policy]
    assert [reaches(fewer, *way) for way in ways] != [reaches(policies("node"), *way) for way in ways]


def test_before_a_hospital_says_where_the_hub_is_nothing_leaves() -> None:
    here = [each for each in built(FOLDER / "node") if each["kind"] == "NetworkPolicy"]
    way = Pod(WAY.labels, here[0]["metadata"]["namespace"], {})
    assert not reaches(here, way, HUB_ADDRESS, 443)


def test_the_sites_file_means_the_folders_that_are_mounted() -> None:
    site = read_site(NORTH / "site.toml")
    assert named("node", "ConfigMap", "site")["data"] == {"site.toml": site.path.read_text()}

    def inside(path: Path) -> str:
        return f"/site/{path.relative_to(site.path.parent)}"

    assert WRITABLE["trainer"] == {inside(site.trainer), inside(site.port), inside(site.logs), TMP}
    assert WRITABLE["gate"] == {inside(site.state), inside(site.gate), TMP}
    mounts = {part: {m["mountPath"]: m for m in container("node", part)["volumeMounts"]} for part in PARTS}
    for part in PARTS:
        assert mounts[part][inside(site.approved)]["readOnly"]
        assert mounts[part][inside(site.path)]["readOnly"]
        plan = plan_of(site, part)
        for place in plan.writable:
            assert any(inside(Path(place)).startswith(path) for path in WRITABLE[part])
        assert not {inside(Path(place)) for place in plan.hide if place.startswith(str(site.path.parent))} & set(
            mounts[part]
        )
    assert inside(site.root) in mounts["trainer"]
    assert inside(site.path.parent / site.file.vault.key) == "/site/vault/key"
    assert site.ca.parent == site.gate  # where the node that enrols can write it
    hub = site.file.hub
    assert hub is not None
    ((rule,),) = [each["spec"]["egress"] for each in policies("node") if each["metadata"]["name"] == "way-to-hub"]
    assert {str(each["port"]) for each in rule["ports"]} == {
        address.rpartition(":")[2] for address in (hub.address, hub.control or hub.address)
    }
    memory = container("node", "trainer")["resources"]["limits"]["memory"]
    assert site.file.limits.memory_gigabytes is not None
    assert site.file.limits.memory_gigabytes < float(memory.removesuffix("Gi"))


def test_a_hospitals_names_agree() -> None:
    site = read_site(NORTH / "site.toml")
    volume = named("node", "PersistentVolume", "polyward-north-data")
    namespace = named("node", "Namespace", f"polyward-{site.name}")["metadata"]
    assert volume["spec"]["claimRef"] == {"namespace": namespace["name"], "name": "data"}
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"]["labels"]["org.polyward.site"] for each in BUILDS["node"]} == {site.name}
    assert {each["metadata"].get("namespace", namespace["name"]) for each in BUILDS["node"]} == {namespace["name"]}


def container(build: str, name: str) -> Resource:
    (found,) = [
        each
        for workload in BUILDS[build]
        if workload["metadata"]["name"] == name
        for each in containers_of(workload)
        if each["name"] == name
    ]
    return found


@pytest.mark.parametrize("build", BUILDS)
def test_images_and_commands_are_the_programs(build: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    programs = {
        "polyward-node": get_command(node_app),
        "polyward-hub": get_command(hub_app),
    }
    known = {name: set(program.commands) for name, program in programs.items()}  # type: ignore[attr-defined]
    targets = (ROOT / "deploy" / "images" / "Dockerfile").read_text()
    for workload in BUILDS[build]:
        for each in containers_of(workload):
            image, _, tag = each["image"].partition(":")
            assert f" AS {image.removeprefix('polyward-')}\n" in targets
            assert tag.removesuffix("-cuda") == version
            probes = [each.get(probe, {}).get("exec", {}).get("command") for probe in ("startupProbe", "livenessProbe")]
            ours = [probe for probe in probes if probe]
            if "args" in each:
                ours.append(["polyward-hub" if image == "polyward-hub" else "polyward-node", *each["args"]])
            for program, command, *_ in ours:
                assert command in known[program]


def test_the_gpu_changes_the_trainer_alone() -> None:
    plain, changed = ({str(e["metadata"]["name"]): e for e in BUILDS[b] if pod_of(e)} for b in list(BUILDS)[:2])
    different = {name for name in plain if plain[name] != changed[name]}
    assert different == {"trainer", "desk"}  # the desk has the same image
    trainer = containers_of(changed["trainer"])[-1]
    assert trainer["image"].endswith("-cuda")
    assert trainer["resources"]["limits"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}


def test_the_trainers_profile_knows_unix_sockets_alone() -> None:
    profile = json.loads(PROFILE.read_text())
    rules = profile["syscalls"]
    free = {
        name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule for name in rule["names"]
    }
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["architectures"] == ["SCMP_ARCH_X86_64"]  # with others come other ways to make a socket
    assert not free & {
        "socket",
        "socketpair",
        "io_uring_setup",
        "clone",
        "clone3",
        "unshare",
        "setns",
        "mount",
        "ptrace",
        "process_vm_readv",
        "bpf",
        "add_key",
        "keyctl",
        "pidfd_getfd",
    }
    bound = [rule for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" and "args" in rule]
    assert [(rule["names"], rule["args"]) for rule in bound] == [
        (["socket", "socketpair"], [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]),  # AF_UNIX
        (["clone"], [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]),  # no CLONE_NEW*
    ]
