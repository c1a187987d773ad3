"""How users' pods and PVCs are marked: names that KubeSpawner gives them. Pure."""

from __future__ import annotations

USERNAME = "hub.jupyter.org/username"
"""Annotation of users' pods and PVCs (KubeSpawner, `common_annotations`)."""
SERVER, HOME = "singleuser-server", "singleuser-storage"
"""Labels `component` of users' pods and PVCs (KubeSpawner)."""
