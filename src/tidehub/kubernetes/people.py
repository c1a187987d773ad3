"""How people's pods and claims are marked: names that KubeSpawner gives them. Pure."""

from __future__ import annotations

USERNAME = "hub.jupyter.org/username"
"""Annotation of people's pods and claims (KubeSpawner, `common_annotations`)."""
SERVER, HOME = "singleuser-server", "singleuser-storage"
"""Labels `component` of people's pods and claims (KubeSpawner)."""
