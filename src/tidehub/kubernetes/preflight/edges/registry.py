"""Container registries: whether an image is there, for which machines, and what it carries.

Pull protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md; anonymous tokens:
https://distribution.github.io/distribution/spec/auth/token/. Names as Docker reads them.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode, urljoin, urlsplit

from tidehub.kubernetes.preflight.edges.network import Network, NoAnswer, Reply

_REFERENCE = re.compile(
    r"(?:(?P<host>(?:localhost|[A-Za-z0-9.-]*[.][A-Za-z0-9.-]*|[A-Za-z0-9.-]+(?=:\d))(?::\d+)?|localhost)/)?"
    r"(?P<name>[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_LAYERS = 48 * 2**20
"""Compressed bytes of layers that are looked through for one image, the smallest layers first."""
_LAYER_SECONDS = 20.0
"""For all layers of one image: on a slow line what they hold stays unknown, and the other items go on."""
_UNPACKED = 1 << 30
_INSTALLED = (
    re.compile(r"(?:^|/)site-packages/(?P<name>[A-Za-z0-9_.]+)-(?P<version>[0-9][^/-]*)\.dist-info/?"),
    re.compile(r"(?:^|/)conda-meta/(?P<name>[a-z0-9_.-]+)-(?P<version>[0-9][^-/]*)-[^-/]+\.json$"),
)
_WANTED = frozenset({"jupyterhub", "jupyterhub-base", "dask", "dask-core", "distributed", "dask-gateway"})
_PINNED = re.compile(
    r"\b(jupyterhub|dask-gateway|distributed|dask)(?:\[[^]]*\])?==?([0-9]+(?:\.[0-9A-Za-z]+)+)"
)

Verdict = Literal["there", "missing", "refused"]


@dataclass(frozen=True)
class Reference:
    """An image's name in its parts."""

    host: str
    name: str
    tag: str
    digest: str | None = None

    def __str__(self) -> str:
        return f"{self.host}/{self.name}" + (f"@{self.digest}" if self.digest else f":{self.tag}")


@dataclass(frozen=True)
class ImageFacts:
    """What a registry says of an image."""

    verdict: Verdict
    digest: str = ""
    platforms: tuple[str, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    """Version by package: jupyterhub, dask, distributed, dask-gateway; only what was found."""
    complete: bool = False
    """Whether every layer was looked through: what was not found is then not there."""
    said: str = ""
    """The registry's words for a refusal."""


def parse(image: str) -> Reference | None:
    """The parts of an image's name; None for what is none."""
    matched = _REFERENCE.fullmatch(image)
    if matched is None:
        return None
    host, name = matched["host"] or "docker.io", matched["name"]
    if host in ("docker.io", "index.docker.io"):
        host, name = "docker.io", name if "/" in name else f"library/{name}"
    return Reference(host, name, matched["tag"] or "latest", matched["digest"])


class Registries:
    """Asks registries anonymously. `plain` are hosts spoken to without TLS; loopback always is. Threads share it."""

    def __init__(self, network: Network, *, plain: Iterable[str] = ()) -> None:
        self._network = network
        self._plain = frozenset(plain)
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, str], str] = {}

    def facts(self, image: Reference, *, contents: bool = False, architecture: str = "amd64") -> ImageFacts:
        """Whether it is there; with `contents`, which of our packages are in it. Raises `NoAnswer`."""
        reply = self._ask(image, f"manifests/{image.digest or image.tag}", _MANIFESTS)
        if reply.status in (401, 403):
            return ImageFacts("refused", said=_said(reply))
        if reply.status == 404:
            return ImageFacts("missing", said=_said(reply))
        if reply.status != 200:
            raise NoAnswer(f"{image.host} answers HTTP {reply.status} about {image.name}")
        document = _json(reply.body, image)
        digest = (
            reply.headers.get("Docker-Content-Digest") or f"sha256:{hashlib.sha256(reply.body).hexdigest()}"
        )
        if "manifests" not in document:
            config = self._config(image, document)
            single = (
                (f"{config.get('os', 'linux')}/{config['architecture']}",)
                if config.get("architecture")
                else ()
            )
            return self._with_contents(ImageFacts("there", digest, single), image, document, config, contents)
        platforms = tuple(
            f"{one['platform'].get('os')}/{one['platform'].get('architecture')}"
            for one in document["manifests"]
            if (one.get("platform") or {}).get("os") not in (None, "unknown")
        )
        facts = ImageFacts("there", digest, platforms)
        ours = [
            one
            for one in document["manifests"]
            if (one.get("platform") or {}).get("architecture") == architecture
        ]
        if not contents or not ours:
            return facts
        inner = self._ask(image, f"manifests/{ours[0]['digest']}", _MANIFESTS)
        if inner.status != 200:
            return facts
        manifest = _json(inner.body, image)
        return self._with_contents(facts, image, manifest, self._config(image, manifest), True)

    def _with_contents(
        self,
        facts: ImageFacts,
        image: Reference,
        manifest: Mapping[str, Any],
        config: Mapping[str, Any],
        contents: bool,
    ) -> ImageFacts:
        if not contents:
            return facts
        found = _of_config(config)
        complete = False
        if "jupyterhub" not in found or "distributed" not in found:
            inside, complete = self._of_layers(image, manifest)
            # A file in a layer is what is there; a command of the build only says what was meant.
            found |= inside
        return ImageFacts(facts.verdict, facts.digest, facts.platforms, found, complete)

    def _config(self, image: Reference, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        digest = (manifest.get("config") or {}).get("digest")
        if not digest:
            return {}
        reply = self._ask(image, f"blobs/{digest}", "*/*")
        return _json(reply.body, image) if reply.status == 200 else {}

    def _of_layers(self, image: Reference, manifest: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
        """Packages named by files in the layers, and whether all layers were read."""
        layers = sorted(manifest.get("layers") or [], key=lambda one: int(one.get("size") or 0))
        left, found, read = _LAYERS, dict[str, str](), 0
        until = time.monotonic() + _LAYER_SECONDS
        for layer in layers:
            size = int(layer.get("size") or 0)
            if size > left or "zstd" in str(layer.get("mediaType")):
                break
            left -= size
            try:
                found |= self._of_layer(image, str(layer["digest"]), size, until)
            except (NoAnswer, tarfile.TarError, zlib.error, EOFError):
                break
            read += 1
        return found, read == len(layers)

    def _of_layer(self, image: Reference, digest: str, size: int, until: float) -> dict[str, str]:
        packed = io.BytesIO()
        with self._network.open(self._url(image, f"blobs/{digest}"), self._authorization(image)) as response:
            if response.status_code != 200:
                raise NoAnswer(
                    f"{image.host} answers HTTP {response.status_code} about a layer of {image.name}"
                )
            for chunk in response.iter_raw():
                packed.write(chunk)
                if time.monotonic() > until:
                    raise NoAnswer(f"the layers of {image.name} take too long to be read")
                if packed.tell() > size:
                    raise NoAnswer(f"a layer of {image.name} is larger than it says")
        packed.seek(0)
        return _of_tar(packed)

    def _ask(self, image: Reference, path: str, accept: str) -> Reply:
        url = self._url(image, path)
        reply = self._network.get(url, {"Accept": accept, **self._authorization(image)})
        if reply.status != 401:
            return reply
        token = self._token(image, reply.headers.get("WWW-Authenticate", ""), url)
        if token is None:
            return reply
        with self._lock:
            self._tokens[(image.host, image.name)] = token
        return self._network.get(url, {"Accept": accept, "Authorization": f"Bearer {token}"})

    def _token(self, image: Reference, challenge: str, url: str) -> str | None:
        """An anonymous token for pulling this image; None where the registry gives none."""
        scheme, _, rest = challenge.partition(" ")
        wanted = dict(_CHALLENGE.findall(rest))
        if scheme.lower() != "bearer" or not wanted.get("realm"):
            return None
        query = {"scope": wanted.get("scope") or f"repository:{image.name}:pull"}
        if wanted.get("service"):
            query["service"] = wanted["service"]
        realm = urljoin(url, wanted["realm"])
        joint = "&" if urlsplit(realm).query else "?"
        reply = self._network.get(f"{realm}{joint}{urlencode(query)}")
        if reply.status != 200:
            return None
        answer = _json(reply.body, image)
        token = answer.get("token") or answer.get("access_token")
        return str(token) if token else None

    def _authorization(self, image: Reference) -> dict[str, str]:
        with self._lock:
            token = self._tokens.get((image.host, image.name))
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _url(self, image: Reference, path: str) -> str:
        host = "registry-1.docker.io" if image.host == "docker.io" else image.host
        bare = host.rpartition(":")[0] or host
        plain = host in self._plain or bare in ("localhost", "127.0.0.1")
        return f"{'http' if plain else 'https'}://{host}/v2/{image.name}/{path}"


def _of_config(config: Mapping[str, Any]) -> dict[str, str]:
    """What labels, variables and the build's commands say."""
    inner = config.get("config") or {}
    found: dict[str, str] = {}
    texts = [str(one.get("created_by") or "") for one in config.get("history") or []]
    for text in texts:
        for name, version in _PINNED.findall(text):
            found.setdefault(name, version)
    for variable in inner.get("Env") or []:
        name, _, value = str(variable).partition("=")
        if name == "JUPYTERHUB_VERSION" and re.match(r"\d", value):
            found["jupyterhub"] = value
    for label, value in (inner.get("Labels") or {}).items():
        package = str(label).rpartition(".")[2]
        if package in _WANTED and re.match(r"\d", str(value)):
            found[package] = str(value)
    return found


def _of_tar(packed: io.BytesIO) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _names(packed):
        for pattern in _INSTALLED:
            matched = pattern.search(name)
            package = matched["name"].lower().replace("_", "-") if matched else ""
            if matched and package in _WANTED:
                found[_common(package)] = matched["version"]
    return found


def _names(packed: io.BytesIO) -> Iterator[str]:
    size = 0
    with tarfile.open(fileobj=packed, mode="r|*") as archive:
        for member in archive:
            size += member.size
            if size > _UNPACKED:
                return
            yield member.name


def _common(package: str) -> str:
    return {"jupyterhub-base": "jupyterhub", "dask-core": "dask"}.get(package, package)


def _json(body: bytes, image: Reference) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise NoAnswer(f"what {image.host} answers is not JSON") from error
    if not isinstance(found, dict):
        raise NoAnswer(f"what {image.host} answers is not a manifest")
    return found


def _said(reply: Reply) -> str:
    try:
        errors = json.loads(reply.body).get("errors") or []
        return str(errors[0].get("message") or errors[0].get("code")) if errors else ""
    except (ValueError, AttributeError, TypeError, KeyError):
        return ""
