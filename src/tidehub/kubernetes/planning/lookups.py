"""What charts make up where no value is given, and look up in the cluster where they made it up before.

The jupyterhub chart does so for the hub's cookie secret, its keys and its services' tokens. Without a cluster every
render has new ones. Helm renders such a release once more, against the cluster, with `--dry-run=server`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tidehub.helm.engine import Helm
from tidehub.helm.problems import HelmProblem
from tidehub.kubernetes.objects import Object, is_hook, read_manifest
from tidehub.kubernetes.rendering.model import Rendered, RenderedRelease
from tidehub.kubernetes.rendering.render import helm_values
from tidehub.secrets.secret import Secret

_SECONDS = 60.0


def made_up(one: RenderedRelease, last: Iterable[Object]) -> dict[str, dict[str, str]]:
    """What Secrets of the render hold that nobody gave and that was another before: by name and key, the old data."""
    before = {str(obj["metadata"]["name"]): dict(_texts(obj)) for obj in last if obj.get("kind") == "Secret"}
    found: dict[str, dict[str, str]] = {}
    given: frozenset[str] | None = None
    for obj in one.objects:
        name = str(obj["metadata"]["name"])
        if obj.get("kind") != "Secret" or name not in before:
            continue
        for key, text in _texts(obj):
            old = before[name].get(key)
            # A file of settings is made of values that were given, or of such keys as are in the Secret themselves.
            if old is None or text == old or "\n" in text or text.startswith("{"):
                continue
            if given is None:
                given = frozenset(_leaves(helm_values(one.release)))
            if not all(part in given for part in text.split(";")):
                found.setdefault(name, {})[key] = old
    return found


def looked_up(
    rendered: Rendered, one: RenderedRelease, last: Sequence[Object], helm: Helm
) -> RenderedRelease:
    """The release as Helm renders it against the cluster, where that makes a difference; else as it was rendered."""
    if not (keys := made_up(one, last)):
        return one
    try:
        applied = helm.upgrade_install(
            one.archive.path,
            helm_values(one.release),
            release=one.release.name,
            namespace=rendered.platform.namespace,
            timeout=_SECONDS,
            dry_run="server",
        )
    except HelmProblem:
        # Whatever stops Helm is found object by object, too, and named there. The chart would keep what is there.
        return replace(one, objects=tuple(_kept(obj, keys) for obj in one.objects))
    return replace(one, objects=tuple(obj for obj in read_manifest(applied.manifest) if not is_hook(obj)))


def _kept(obj: Object, keys: Mapping[str, Mapping[str, str]]) -> Object:
    old = keys.get(str(obj["metadata"]["name"])) if obj.get("kind") == "Secret" else None
    if old is None:
        return obj
    data = {**(obj.get("data") or {})}
    data.update({key: base64.b64encode(text.encode()).decode() for key, text in old.items()})
    plain = {key: text for key, text in (obj.get("stringData") or {}).items() if key not in old}
    return {**obj, "data": data, "stringData": plain}


def _texts(secret: Object) -> Iterator[tuple[str, str]]:
    yield from ((str(key), str(text)) for key, text in (secret.get("stringData") or {}).items())
    for key, written in (secret.get("data") or {}).items():
        try:
            yield str(key), base64.b64decode(str(written), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            continue


def _leaves(values: Any) -> Iterator[str]:
    if isinstance(values, Secret):
        yield values.reveal()
    elif isinstance(values, Mapping):
        for each in values.values():
            yield from _leaves(each)
    elif isinstance(values, list | tuple):
        for each in values:
            yield from _leaves(each)
    elif values is not None:
        yield str(values)
