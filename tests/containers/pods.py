"""The pods of deploy/kubernetes, as a cluster's machine would start them, by an engine that has no Kubernetes."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.deploy.kustomized import Resource, pod_of
from tests.support.engine import Engine

PROFILES = Path(__file__).parents[2] / "deploy" / "kubernetes" / "node"
GROUP = 10001
REFERENCE = re.compile(r"\$\((\w+)\)")  # to another variable, in a manifest


class Machine:
    """One machine of a cluster, whose network holds nothing back: what does not get through, no policy has stopped.

    Volumes are folders below `folder`, with the owners and modes that a kubelet gives them.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.name = f"k8s-{secrets.token_hex(3)}"
        self.services: dict[str, str] = {}
        engine.docker("network", "create", self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        names = self.engine.docker("ps", "-aq", "--filter", f"label=k8s={self.name}").split()
        if names:
            self.engine.docker("rm", "--force", *names)
        self.engine.docker("network", "rm", self.name)

    def volume(self, name: str, files: Mapping[str, str] | None = None, *, mode: int = 0o2770) -> Path:
        """A volume's folder, with these files in it."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, text in (files or {}).items():
            (folder / file).write_text(text)
            os.chown(folder / file, 0, GROUP)
            (folder / file).chmod(0o440)
        os.chown(folder, 0, GROUP)
        folder.chmod(mode)
        return folder

    def start(
        self,
        workload: Resource,
        *,
        alias: str = "",
        environment: Mapping[str, str] | None = None,
        profile: bool = True,
    ) -> str:
        """Runs the first containers to their end and leaves the last one running; its name."""
        pod = pod_of(workload)
        assert pod is not None
        more = environment or {}
        for container in pod["spec"].get("initContainers", ()):
            self.engine.docker("run", "--rm", *self._arguments(pod, container, more, profile=profile))
        name = f"{self.name}-{workload['metadata']['name']}"
        known_as = ("--network-alias", alias) if alias else ()
        (container,) = pod["spec"]["containers"]
        self.engine.docker(
            "run", "--detach", "--name", name, *known_as, *self._arguments(pod, container, more, profile=profile)
        )
        address = self.engine.docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name
        )
        self.services[f"{workload['metadata']['name'].upper()}_SERVICE_HOST"] = address.strip()
        return name

    def _arguments(
        self, pod: Resource, container: Resource, more: Mapping[str, str], *, profile: bool
    ) -> list[str | Path]:
        spec = pod["spec"]
        user = spec["securityContext"]
        wanted: list[str | Path] = ["--label", f"k8s={self.name}", "--network", self.name, "--cap-drop", "ALL"]
        wanted += ["--user", f"{user['runAsUser']}:{user['runAsGroup']}", "--security-opt", "no-new-privileges"]
        wanted += ["--read-only"] if container["securityContext"]["readOnlyRootFilesystem"] else []
        if "fsGroup" in user:
            wanted += ["--group-add", str(user["fsGroup"])]
        if profile and user["seccompProfile"]["type"] == "Localhost":
            wanted += ["--security-opt", f"seccomp={PROFILES / Path(user['seccompProfile']['localhostProfile']).name}"]
        if spec.get("dnsPolicy") == "None":
            wanted += ["--dns", spec["dnsConfig"]["nameservers"][0]]
        given = {each["name"]: each["value"] for each in container.get("env", ())} | dict(more)
        for key, value in given.items():
            wanted += ["--env", f"{key}={REFERENCE.sub(lambda found: self.services[found[1]], value)}"]
        for mount in container["volumeMounts"]:
            source = self._source(spec, mount) / mount.get("subPath", "")
            read_only = ",readonly" if mount.get("readOnly") else ""
            wanted += ["--mount", f"type=bind,source={source},target={mount['mountPath']}{read_only}"]
        command = list(container.get("command", ()))
        wanted += ["--entrypoint", command[0]] if command else []
        return [*wanted, container["image"], *(command[1:] or container.get("args", ()))]

    def _source(self, spec: Resource, mount: Resource) -> Path:
        volumes: dict[str, Any] = {each["name"]: each for each in spec["volumes"]}
        volume = volumes.get(mount["name"], {})
        if "emptyDir" in volume:
            folder = self.folder / f"empty-{mount['name']}"
            if not folder.exists():
                folder.mkdir()
                folder.chmod(0o777)
            return folder
        if "secret" in volume:
            return self.folder / f"secret-{volume['secret']['secretName']}"
        if "configMap" in volume:
            return self.folder / f"config-{volume['configMap']['name']}"
        claim: str = volume.get("persistentVolumeClaim", {}).get("claimName", mount["name"])
        return self.folder / claim

    def ends_well(self, name: str, *command: str, within: float) -> bool:
        """Whether a command in a container ends with 0, tried again until then."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            said = self.engine.docker(
                "exec", name, "sh", "-c", '"$@" >/dev/null 2>&1 && echo yes', "-", *command, check=False
            )
            if said.strip() == "yes":
                return True
            time.sleep(0.5)
        return False

    def exit_code(self, name: str, *, within: float) -> int:
        return int(self.engine.docker("wait", name, within=within))
