"""What `kubectl kustomize` makes of a folder, for the few of its features that the manifests here use."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
CLUSTER_WIDE = {"Namespace", "PersistentVolume"}
KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "components",
    "images",
    "labels",
    "patches",
    "configMapGenerator",
    "generatorOptions",
}


def built(folder: Path, *, components: tuple[Path, ...] = ()) -> list[Resource]:
    """The resources of a folder with a kustomization.yaml, as if `components` were written in it too."""
    return _applied(folder, [], components)


def _applied(folder: Path, resources: list[Resource], components: tuple[Path, ...] = ()) -> list[Resource]:
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(wanted) <= KNOWN, f"{folder}: {set(wanted) - KNOWN}"
    for name in wanted.get("resources", ()):
        path = folder / name
        resources = resources + (built(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text())))
    resources = resources + [_generated(folder, each) for each in wanted.get("configMapGenerator", ())]
    for component in (*(folder / name for name in wanted.get("components", ())), *components):
        resources = _applied(component, resources)
    for each in wanted.get("patches", ()):
        patch = yaml.safe_load((folder / each["path"]).read_text())
        assert each["target"] == dict(zip(("kind", "name"), _identity(patch), strict=True))
        found = [resource for resource in resources if _identity(resource) == _identity(patch)]
        assert len(found) == 1, f"{each['path']} changes {len(found)} resources"
        resources = [_merged(resource, patch) if resource is found[0] else resource for resource in resources]
    for resource in resources:
        _transform(resource, wanted)
    return resources


def _identity(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def _generated(folder: Path, wanted: Mapping[str, Any]) -> Resource:
    data = {name: (folder / name).read_text() for name in wanted.get("files", ())}
    data |= dict(literal.split("=", 1) for literal in wanted.get("literals", ()))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": wanted["name"]}, "data": data}


def _merged(old: Any, new: Any) -> Any:
    """A strategic merge: lists of things with names by their names, other lists as a whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _merged(old[key], value) if key in old else value for key, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list) and all("name" in each for each in old + new):
        by_name = {each["name"]: each for each in new}
        merged = [_merged(each, by_name.pop(each["name"], {})) for each in old]
        return merged + list(by_name.values())
    return deepcopy(new)


def _transform(resource: Resource, wanted: Mapping[str, Any]) -> None:
    metadata = resource["metadata"]
    if namespace := wanted.get("namespace"):
        if resource["kind"] == "Namespace":
            metadata["name"] = namespace
        elif resource["kind"] not in CLUSTER_WIDE:
            metadata["namespace"] = namespace
    for each in wanted.get("labels", ()):
        assert set(each) == {"pairs"}, "selectors and templates are left alone"
        metadata["labels"] = {**metadata.get("labels", {}), **each["pairs"]}
    tags = {each["name"]: each["newTag"] for each in wanted.get("images", ())}
    for container in containers_of(resource):
        name = container["image"].partition(":")[0]
        if name in tags:
            container["image"] = f"{name}:{tags[name]}"


def pod_of(resource: Resource) -> Resource | None:
    """The template of a resource that makes pods."""
    template: Resource | None = resource.get("spec", {}).get("template")
    return template


def containers_of(resource: Resource) -> list[Resource]:
    template = pod_of(resource)
    if template is None:
        return []
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]
