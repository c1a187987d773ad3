"""A KubeSpawner that finds a user's home by what exists. Travels as text into the hub's configuration.

KubeSpawner 7 names PVCs in another way than before. It looks for the old name only where the state that it loads is of
an older version; at the stop of a server that ran during the upgrade it writes its own version without a name, and the
next start makes a new, empty PVC (7.0.0, `get_state` and `_start`). An older one knows nothing of the new names, so a
rollback does the same, and neither notices when the remembered PVC is gone. Every KubeSpawner since 0.11 writes whose a
PVC is into its annotations, whatever it is called: they decide here.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator
from typing import Any

from kubespawner import KubeSpawner

USER, SERVER = "hub.jupyter.org/username", "hub.jupyter.org/servername"
ASIDE = "tidehub/set-aside"
"""Annotation of a home that an operator took out of use (`tidehub homes`)."""
HOMES = "component=singleuser-storage"
PAGE = 250
"""PVCs that are asked for at a time: while they come, the hub serves others."""
SECONDS = 30
"""For one answer of the API server."""
_SERVERS = ("servername", "user_server")
"""Fields of a template with which each named server has a home of its own."""


class HomeFinder(KubeSpawner):  # type: ignore[misc]
    """KubeSpawner that mounts the home that is there. Where the cluster does not answer, nothing is made."""

    _home_given = ""

    async def load_user_options(self) -> None:
        """Upstream's place for what is decided at each start, before anything is made."""
        await super().load_user_options()
        if self.storage_pvc_ensure:
            await self._take_home()

    async def _take_home(self) -> None:
        usual = self._expand_user_properties(self.pvc_name_template)
        for name in dict.fromkeys([self.pvc_name, usual]):
            if await self._exists(name):
                return self._mount(name, exists=True)
        there = [one async for one in self._homes()]
        if not there:
            return self._mount(usual, exists=False)
        # The oldest is the one with the files.
        name = str(min(there, key=lambda meta: str(meta.get("creationTimestamp")))["name"])
        self.log.warning("The home of %s is the PVC %s, not %s", self._log_name, name, usual)
        return self._mount(name, exists=True)

    def _mount(self, name: str, *, exists: bool) -> None:
        # Charts before 4 write the template into the volume, not the name that was found.
        stale = {self.pvc_name_template, self._home_given} - {""}
        volumes: Any = copy.deepcopy(self.volumes)  # type: ignore[has-type]
        for volume in volumes.values() if isinstance(volumes, dict) else volumes:
            claim = volume.get("persistentVolumeClaim")
            if claim and claim.get("claimName") in stale:
                claim["claimName"] = name
        self.volumes = volumes
        self.pvc_name = self._home_given = name
        self._pvc_exists = exists

    async def _exists(self, name: str) -> bool:
        try:
            found = await self._ask("read_namespaced_persistent_volume_claim", name=name)
        except Exception as error:
            if getattr(error, "status", None) == 404:
                return False
            raise
        return ASIDE not in (found.metadata.annotations or {})

    async def _homes(self) -> Any:
        """Metadata of this server's homes by their annotations, page by page."""
        following = None
        while following is None or following:
            # Unread: the client builds an object of every field, at a millisecond each.
            answer = await self._ask(
                "list_namespaced_persistent_volume_claim",
                label_selector=HOMES,
                limit=PAGE,
                _preload_content=False,
                **({"_continue": following} if following else {}),
            )
            text = answer.data if hasattr(answer, "data") else answer.read()
            found = json.loads(await text if inspect.isawaitable(text) else text)
            following = (found.get("metadata") or {}).get("continue") or ""
            for one in self._ours(found.get("items") or ()):
                yield one

    def _ours(self, items: Any) -> Iterator[dict[str, Any]]:
        own = any(field in self.pvc_name_template for field in _SERVERS)
        for item in items:
            annotations = item["metadata"].get("annotations") or {}
            server = annotations.get(SERVER) or ""
            if annotations.get(USER) != self.user.name or annotations.get(ASIDE):
                continue
            if not own or server == (self.name or ""):
                yield item["metadata"]

    async def _ask(self, method: str, **arguments: Any) -> Any:
        call = getattr(self.api, method)
        arguments.update(namespace=self.namespace, _request_timeout=SECONDS)
        # Before version 2 the client was synchronous.
        waiting = self.asynchronize(call, **arguments) if hasattr(self, "asynchronize") else call(**arguments)
        return await waiting
