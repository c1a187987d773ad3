"""Keeps the node's iptables as network policies say: watches, asks `node_policies`, applies."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence

import node_policies
import urllib3
from cluster_api import Api, Object, Refused

_KINDS = {"Pod": "v1", "Namespace": "v1", "NetworkPolicy": "networking.k8s.io/v1"}
_TOGETHER = 0.05
"""Seconds in which changes are gathered before they are applied."""


class PolicyKeeper:
    """Three threads that watch and one that applies, in the network of the thread that starts them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._objects: dict[str, dict[str, Object]] = {kind: {} for kind in _KINDS}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._ending = threading.Event()
        self._applied = node_policies.Rules()
        self.faults: list[str] = []
        """What iptables or ipset refused."""

    def start(self) -> None:
        """Start watching; policies hold within a moment after they or their pods appear."""
        entry = node_policies.ENTRY
        _fed(["iptables", "-N", entry])
        _fed(["iptables", "-I", "FORWARD", "-j", entry])
        for kind, version in _KINDS.items():
            threading.Thread(target=self._follow, args=(kind, version), daemon=True).start()
        threading.Thread(target=self._apply, daemon=True).start()

    def stop(self) -> None:
        """Stop applying; the threads are daemons and end with their watch."""
        self._ending.set()
        self._changed.set()

    def _follow(self, kind: str, version: str) -> None:
        while not self._ending.is_set():
            try:
                # All at once: with some of the objects the rules would let through what the others forbid.
                listed = {one["metadata"]["uid"]: one for one in self._api.list(kind, version=version)}
                with self._lock:
                    self._objects[kind] = listed
                for change, one in self._api.watch(kind, version=version):
                    if self._ending.is_set():
                        return
                    with self._lock:
                        if change == "DELETED":
                            self._objects[kind].pop(one["metadata"]["uid"], None)
                        elif change in ("ADDED", "MODIFIED"):
                            self._objects[kind][one["metadata"]["uid"]] = one
                    self._changed.set()
            except (Refused, urllib3.exceptions.HTTPError, OSError, ValueError):
                self._ending.wait(0.2)

    def _apply(self) -> None:
        while not self._ending.is_set():
            self._changed.wait()
            self._ending.wait(_TOGETHER)
            self._changed.clear()
            with self._lock:
                pods, namespaces, policies = (list(self._objects[kind].values()) for kind in _KINDS)
            wanted = node_policies.rules(pods, policies, namespaces)
            if self._ending.is_set() or wanted == self._applied:
                continue
            try:
                _fed(["ipset", "restore", "-exist"], wanted.for_ipset())
                _fed(["iptables-restore", "-w", "5", "--noflush"], wanted.for_iptables(self._applied.chains))
                self._applied = wanted
            except subprocess.CalledProcessError as error:
                self.faults.append(f"{error.cmd}: {error.stderr}")
                self._ending.wait(1)
                self._changed.set()


def _fed(command: Sequence[str], text: str = "") -> None:
    subprocess.run(command, input=text, capture_output=True, text=True, check=True)
