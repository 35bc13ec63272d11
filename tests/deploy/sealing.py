"""What is wrong with a set of Kubernetes resources: settings that seal a pod but are absent, loose names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tests.deploy.kustomized import Resource, containers_of, pod_of

PROFILE = {"type": "Localhost", "localhostProfile": "polyward/trainer-seccomp.json"}
SEALED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
WITH_IMAGES = {"trainer", "desk"}  # pods that see images, and for that have no network
THROUGH_THE_WAY = {"gate", "enrol"}  # pods that leave by one address
ASK_NOBODY = WITH_IMAGES | THROUGH_THE_WAY | {"gateway"}  # for names
TOLD_OF_SERVICES = THROUGH_THE_WAY | {"gateway"}  # instead
TMP = "/tmp"  # noqa: S108  # the pod's own
SECRETS = {"vault", "invitation"}  # which people make, and no manifest holds
# all that may be written, by container; `folders` makes what the others mount
WRITABLE = {
    "trainer": {"/site/state/port", "/site/state/logs", "/site/state/trainer", TMP},
    "gate": {"/site/state", "/site/state/gate", TMP},
    "way": {TMP},
    "enrol": {"/site/state/gate", TMP},
    "desk": {"/site/state", "/site/state/trainer", TMP},
    "folders": {"/site/state", "/site/data", TMP},
    "vault": {"/site/vault"},
    "hub": {"/hub", TMP},
    "init": {"/hub", TMP},
    "gateway": {TMP},
}
# volumes that hold what only some pods may see
SEEN_BY = {
    "data": WITH_IMAGES,
    "trainer": WITH_IMAGES,
    "vault": WITH_IMAGES,
    "gate": THROUGH_THE_WAY,
    "invitation": {"enrol"},
    "meeting": WITH_IMAGES | {"gate"},
}


def faults(resources: Sequence[Resource]) -> list[str]:
    """One line for each; none when all is as it should be."""
    found = [
        f"{workload['metadata']['name']}: {fault}"
        for workload in resources
        if pod_of(workload) is not None
        for fault in (*_pod_faults(workload), *_container_faults(workload), *_volume_faults(workload, resources))
    ]
    return [*found, *_name_faults(resources)]


def _pod_faults(workload: Resource) -> Iterator[str]:
    name, template = workload["metadata"]["name"], pod_of(workload)
    assert template is not None
    pod: dict[str, Any] = template["spec"]
    user = pod.get("securityContext", {})
    if pod.get("automountServiceAccountToken") is not False:
        yield "the cluster's own token is mounted"
    if user.get("runAsNonRoot") is not True or not user.get("runAsUser") or not user.get("runAsGroup"):
        yield "may run as root"
    if "fsGroup" in user and user.get("fsGroupChangePolicy") != "OnRootMismatch":
        yield "each start lets the group read the keys"
    if user.get("seccompProfile") != (PROFILE if name in WITH_IMAGES else {"type": "RuntimeDefault"}):
        yield "has another seccomp profile"
    for setting in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if pod.get(setting):
            yield setting
    if pod.get("enableServiceLinks") is not (name in TOLD_OF_SERVICES):
        yield "hears of the wrong services"
    if name in ASK_NOBODY:
        asks = pod.get("dnsConfig", {}).get("nameservers")
        if pod.get("dnsPolicy") != "None" or asks != ["127.0.0.1"]:
            yield "can ask a name server"
    if name in {"gate", "desk"} and not _is_beside_the_trainer(pod):
        yield "may be on another machine than the trainer"


def _is_beside_the_trainer(pod: Resource) -> bool:
    terms = pod.get("affinity", {}).get("podAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", [])
    wanted = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "trainer"}}}
    return wanted in terms


def _container_faults(workload: Resource) -> Iterator[str]:
    for container in containers_of(workload):
        name = container["name"]
        if container.get("securityContext") != SEALED:
            yield f"{name}: is not sealed"
        limits = container.get("resources", {}).get("limits", {})
        if not {"cpu", "memory"} <= set(limits):
            yield f"{name}: has no limits"
        if ":" not in container["image"]:
            yield f"{name}: takes any version of its image"
        for mount in container["volumeMounts"]:
            may_write = mount["name"] != "data" and mount["mountPath"] in WRITABLE[name]
            if not mount.get("readOnly") and not may_write:
                yield f"{name}: may write to {mount['mountPath']}"
        ports = {port["name"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            way = container.get(probe, {})
            port = (way.get("tcpSocket") or way.get("httpGet") or {}).get("port")
            if port is not None and port not in ports:
                yield f"{name}: {probe} asks at {port}"
    if not any("livenessProbe" in each or "readinessProbe" in each for each in containers_of(workload)) and (
        workload["kind"] != "Job" and workload["metadata"]["name"] != "desk"
    ):
        yield "nobody asks whether it is well"


def _volume_faults(workload: Resource, resources: Sequence[Resource]) -> Iterator[str]:
    name, template = workload["metadata"]["name"], pod_of(workload)
    assert template is not None
    there = {(each["kind"], each["metadata"]["name"]) for each in resources}
    volumes = {each["name"]: each for each in template["spec"].get("volumes", ())}
    claimed = {each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", ())}
    mounted = {mount["name"] for container in containers_of(workload) for mount in container["volumeMounts"]}
    if mounted != set(volumes) | claimed:
        yield f"volumes and mounts differ: {sorted(mounted ^ (set(volumes) | claimed))}"
    for volume in volumes.values():
        claim, config = volume.get("persistentVolumeClaim"), volume.get("configMap")
        if claim and ("PersistentVolumeClaim", claim["claimName"]) not in there:
            yield f"there is no claim {claim['claimName']}"
        if config and ("ConfigMap", config["name"]) not in there:
            yield f"there is no ConfigMap {config['name']}"
        secret = volume.get("secret", {}).get("secretName")
        if secret and secret not in SECRETS:
            yield f"nobody is told to make the Secret {secret}"
        source = secret or (claim or {}).get("claimName", "")
        if name not in SEEN_BY.get(source, {name}):
            yield f"sees {source}"
        if source == "data" and claim and claim.get("readOnly") is not True:
            yield "may write the images"
        if "hostPath" in volume:
            yield "sees the machine's own files"


def _name_faults(resources: Sequence[Resource]) -> Iterator[str]:
    pods = {each["metadata"]["name"]: pod for each in resources if (pod := pod_of(each)) is not None}
    for resource in resources:
        kind, name, spec = resource["kind"], resource["metadata"]["name"], resource.get("spec", {})
        if kind in {"Deployment", "StatefulSet"}:
            wanted = spec["selector"]["matchLabels"]
            if _selected(wanted, pods) != [name]:
                yield f"{name}: selects the pods of {_selected(wanted, pods)}"
        elif kind == "Service":
            chosen = _selected(spec["selector"], pods)
            ports = {port["name"] for each in chosen for port in pods[each]["spec"]["containers"][0].get("ports", ())}
            if len(chosen) != 1 or not {port["targetPort"] for port in spec["ports"]} <= ports:
                yield f"service {name}: leads nowhere"
        elif kind == "NetworkPolicy" and not _selected(spec["podSelector"].get("matchLabels", {}), pods):
            yield f"policy {name}: is about nobody"


def _selected(wanted: dict[str, str], pods: dict[str, Resource]) -> list[str]:
    return [name for name, pod in pods.items() if wanted.items() <= pod["metadata"]["labels"].items()]
