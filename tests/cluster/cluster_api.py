"""A small client for tests: any object as a dictionary, applied, read, waited for and deleted.

On the official client's connection pool only, so that every kubeconfig works, without its typed classes.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from kubernetes.client import ApiClient
from kubernetes.config import new_client_from_config
from ruamel.yaml import YAML

Object = dict[str, Any]
PATIENCE = 60.0
_EVERY = 0.1
_STEPS_OF_DELETION = ("Foreground", "Background", "Orphan")


class Refused(Exception):
    """The API server refused: its HTTP status and its own message."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"{status}: {message}")


class Api:
    """The API that `kubeconfig` leads to, as its current context."""

    def __init__(self, kubeconfig: Path, *, timeout: float = 30.0) -> None:
        client: ApiClient = new_client_from_config(str(kubeconfig))
        self._configuration = client.configuration
        self._pool = client.rest_client.pool_manager
        self._timeout = timeout
        self._known: dict[tuple[str, str], tuple[str, bool]] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The server's address."""
        return str(self._configuration.host)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout: float | None = None,
    ) -> Any:
        """One request; the parsed JSON or text of its answer. Raises `Refused`, or urllib3's errors."""
        raw = self._open(method, path, body, query or {}, content_type, timeout or self._timeout)
        try:
            data = raw.data
        finally:
            raw.release_conn()
        try:
            return json.loads(data)
        except ValueError:
            return data.decode(errors="replace")

    def get(self, kind: str, name: str, namespace: str = "", *, version: str = "v1") -> Object | None:
        """An object, or None where there is none."""
        try:
            return self.call("GET", self._path(version, kind, namespace, name))  # type: ignore[no-any-return]
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    def list(
        self, kind: str, namespace: str = "", *, version: str = "v1", selector: str = ""
    ) -> list[Object]:
        """All objects of a kind, in one namespace or in all."""
        query = {"labelSelector": selector} if selector else {}
        found = self.call("GET", self._path(version, kind, namespace), query=query)
        return list(found["items"])

    def apply(
        self, objects: str | Mapping[str, Any] | Iterable[Mapping[str, Any]], namespace: str = ""
    ) -> None:
        """Apply YAML text or objects by server-side apply, in their order, into `namespace` where they name none."""
        for one in _objects(objects):
            body = json.loads(json.dumps(one))
            metadata = body["metadata"]
            path = self._path(
                body["apiVersion"], body["kind"], metadata.get("namespace") or namespace, metadata["name"]
            )
            query = {"fieldManager": "tests", "force": "true"}
            self.call("PATCH", path, body, query=query, content_type="application/apply-patch+yaml")

    def create(self, one: Mapping[str, Any], namespace: str = "") -> Object:
        """Create one object. Raises `Refused` 409 where it exists."""
        where = one["metadata"].get("namespace") or namespace
        return self.call("POST", self._path(one["apiVersion"], one["kind"], where), one)  # type: ignore[no-any-return]

    def patch(
        self,
        kind: str,
        name: str,
        change: Mapping[str, Any],
        namespace: str = "",
        *,
        version: str = "v1",
        part: str = "",
    ) -> Object:
        """Merge `change` into an object, or into its subresource `part`."""
        path = self._path(version, kind, namespace, name) + (f"/{part}" if part else "")
        answer: Object = self.call("PATCH", path, change, content_type="application/merge-patch+json")
        return answer

    def delete(
        self, kind: str, name: str, namespace: str = "", *, version: str = "v1", how: str = "Background"
    ) -> None:
        """Delete an object; its absence is fine. `how` is the propagation policy."""
        assert how in _STEPS_OF_DELETION
        try:
            self.call("DELETE", self._path(version, kind, namespace, name), {"propagationPolicy": how})
        except Refused as refusal:
            if refusal.status != 404:
                raise

    def wait(self, what: str, read: Callable[[], Any], *, patience: float = PATIENCE) -> Any:
        """What `read` returns once it is true; asks ten times a second. Raises `TimeoutError` naming `what`."""
        until = time.monotonic() + patience
        while True:
            found = read()
            if found:
                return found
            if time.monotonic() > until:
                raise TimeoutError(f"not within {patience:.0f} s: {what}")
            time.sleep(_EVERY)

    def watch(self, kind: str, *, version: str = "v1", timeout: int = 3600) -> Iterator[tuple[str, Object]]:
        """(`ADDED`, `MODIFIED`, `DELETED`; object) of every namespace, from all that exist on, until it breaks off."""
        query = {"watch": "true", "timeoutSeconds": str(timeout)}
        raw = self._open("GET", self._path(version, kind, ""), None, query, "application/json", timeout + 5.0)
        rest = b""
        try:
            for chunk in raw.stream(65536, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]
        finally:
            raw.close()

    def _open(
        self, method: str, path: str, body: Any, query: Mapping[str, str], content_type: str, timeout: float
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        for setting in self._configuration.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        raw = self._pool.request(
            method,
            f"{self._configuration.host}{quote(path, safe='/:')}" + (f"?{urlencode(query)}" if query else ""),
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=timeout,
            retries=False,
            preload_content=False,
        )
        if raw.status >= 400:
            data = raw.data
            raw.release_conn()
            raise _refused(raw.status, data)
        return raw

    def _path(self, version: str, kind: str, namespace: str, name: str = "") -> str:
        plural, namespaced = self._resource(version, kind)
        base = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        inside = f"/namespaces/{namespace}" if namespaced and namespace else ""
        if namespaced and name and not namespace:
            raise ValueError(f"{kind} {name} needs a namespace")
        return f"{base}{inside}/{plural}" + (f"/{name}" if name else "")

    def _resource(self, version: str, kind: str) -> tuple[str, bool]:
        with self._lock:
            if (version, kind) not in self._known:
                base = f"/api/{version}" if version == "v1" else f"/apis/{version}"
                for one in self.call("GET", base)["resources"]:
                    if "/" not in one["name"]:
                        self._known[version, one["kind"]] = (one["name"], one["namespaced"])
            try:
                return self._known[version, kind]
            except KeyError:
                raise Refused(404, f"no kind {kind} in {version}") from None


def _objects(given: str | Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if isinstance(given, str):
        return [one for one in YAML(typ="safe").load_all(given) if one]
    return [given] if isinstance(given, Mapping) else list(given)


def _refused(status: int, body: bytes) -> Refused:
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")
    return Refused(status, message)
