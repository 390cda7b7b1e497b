"""Installations of Ebbtide in the cluster, as an administrator makes them from the folders under `kustomize`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.paths import ROOT
from e2e.servers.images import image
from e2e.stage import PROFILE, Stage

RELEASED: Final = "ghcr.io/ebbtide/ebbtide"
COMPONENTS: Final = ROOT / "kustomize"


def write_overlay(stage: Stage, component: str, namespace: str, profile: Mapping[str, Any], config_map: str) -> Path:
    """Write an overlay with the suite's image, this namespace, and the suite's profile with changes; return its folder.

    ``profile`` replaces sections of the profile's spec, and ``config_map`` is the component's name for it.
    """
    told = yaml.safe_load(PROFILE.read_text())
    told["spec"] = {**told["spec"], **{name: told["spec"].get(name, {}) | value for name, value in profile.items()}}
    stage.written(f"{component}/profile.yaml", yaml.safe_dump(told))
    file = stage.written(f"{component}/kustomization.yaml", "")
    name, _, tag = image("ebbtide").rpartition(":")
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [os.path.relpath(COMPONENTS / component, file.parent)],
        "images": [{"name": RELEASED, "newName": name, "newTag": tag}],
        "configMapGenerator": [{"name": config_map, "behavior": "replace", "files": ["profile.yaml"]}],
    }
    file.write_text(yaml.safe_dump(overlay))
    return file.parent
