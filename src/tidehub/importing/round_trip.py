"""The account of an import: for every value of the original, what became of it; nothing missing, nothing twice.

And the way back: what the imported site becomes in Helm values, beside what the original said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tidehub.errors import Place
from tidehub.importing.build import Imported
from tidehub.importing.cluster_options import Range, Recovered, recover
from tidehub.importing.fates import Kind, LeafFate, leaves
from tidehub.importing.python_reading import Statements, parse
from tidehub.importing.quantities import kubernetes_bytes, trait_bytes
from tidehub.importing.values_yaml import Document
from tidehub.site.destinations.catalogue import carried_data, helm_fragments
from tidehub.site.model import Site
from tidehub.site.problems import KeyPath

_LOGIN_SECTIONS = ("Authenticator", "EGICheckinAuthenticator", "GenericOAuthenticator", "OAuthenticator")
_SAME_WORDS = (
    "authorize_url", "client_id", "oauth_callback_url", "scope", "token_url", "userdata_url",
)  # fmt: skip
"""Traits that tidehub's own authenticator has from GenericOAuthenticator's base."""


def unaccounted(documents: Iterable[Document], imported: Imported) -> list[Place]:
    """Places of values that the import says nothing about, or that it counts twice. Empty when all is well.

    Independent of the rules: it compares the places of all leaves in the files with those in the account.
    """
    written = Counter(
        document.places[path] for document in documents for path in leaves(document.data) if path
    )
    said = Counter(leaf.where for leaf in imported.leaves)
    differ = (written - said) + (said - written)
    return sorted(differ, key=lambda place: (place.file, place.line, place.column))


def differences(imported: Imported) -> list[LeafFate]:
    """What the imported site says otherwise than the original, or not at all: all but understood, kept and secret."""
    return [leaf for leaf in imported.leaves if leaf.fate.kind in (Kind.TRANSLATED, Kind.DROPPED)]


def explained(imported: Imported) -> bool:
    """Whether every difference has a remark and everything else a key."""
    for leaf in imported.leaves:
        needs_remark = leaf.fate.kind in (Kind.TRANSLATED, Kind.DROPPED, Kind.REPLACED)
        needs_key = leaf.fate.kind in (Kind.UNDERSTOOD, Kind.TRANSLATED, Kind.PASSED, Kind.SECRET)
        if (needs_remark and not leaf.fate.remark) or (needs_key and not leaf.fate.key):
            return False
    return True


@dataclass(frozen=True)
class Otherwise:
    """A value that was understood, and comes out of the imported site in other words."""

    leaf: LeafFate
    original: Any
    rendered: Any
    """None where the site's own values do not have the key."""


def rendered_otherwise(imported: Imported, documents: Iterable[Document], site: Site) -> list[Otherwise]:
    """The understood values that the imported site does not give back to Helm as they were, or as their equal.

    Secrets, and what is kept under `overrides`, come back as they are; what was translated or dropped has its remark.
    """
    files = {document.file: document for document in documents}
    fragments, carried = helm_fragments(site), carried_data(site)
    login = upstream_login(carried)
    found = []
    for leaf in imported.leaves:
        if leaf.fate.kind is not Kind.UNDERSTOOD or leaf.chart == "ingress":
            continue
        path = _written_path(files[leaf.where.file], leaf)
        if path is None:
            continue
        original = _at(files[leaf.where.file].data, path)
        chart = "daskhub" if imported.model == "daskhub" else leaf.chart
        rendered = _at(fragments.get(chart, {}), _in_one_section(leaf.path))
        if "extraConfig" in leaf.path:
            gateway = fragments.get(chart, {})
            above = leaf.path[: leaf.path.index("extraConfig")]
            if not _same_code(original, _at(gateway, above), carried):
                found.append(Otherwise(leaf, original, rendered))
            continue
        if rendered is None:
            rendered = _at(login, _login_trait(leaf.path) or ("",))
        if not is_equal(original, rendered):
            found.append(Otherwise(leaf, original, rendered))
    return found


def is_equal(original: Any, rendered: Any) -> bool:
    """Whether two values of a chart mean the same to it."""
    if original == rendered and isinstance(original, bool) == isinstance(rendered, bool):
        return True
    if isinstance(original, bool) or isinstance(rendered, bool):
        return False
    for read in (trait_bytes, kubernetes_bytes):
        if read(original) is not None and read(original) == read(rendered):
            return True
    if not isinstance(original, str) or not isinstance(rendered, str):
        return False
    # Braces are doubled where KubeSpawner expands templates; base addresses end with a slash either way.
    plain = rendered.replace("{{", "{").replace("}}", "}")
    return original.replace("{{", "{").replace("}}", "}") == plain or f"/{original.strip('/')}/" == rendered


def upstream_login(carried: Mapping[str, Any]) -> dict[str, Any]:
    """The login that travels as code (`destinations.carried_data`), in the words of GenericOAuthenticator."""
    own = carried.get("SiteAuthenticator", {})
    rule = own.get("rule") or carried.get("SiteRule", {}).get("rule", {})
    found = {name: value for name, value in own.items() if name in _SAME_WORDS}
    if "end_session_url" in own:
        found["logout_redirect_url"] = own["end_session_url"]
    if "username_claim" in rule:
        found["username_claim"] = rule["username_claim"]
    allow, admins = rule.get("allow", {}), rule.get("admins", {})
    if "everyone" in allow:
        found["allow_all"] = allow["everyone"]
    for names in ("users", "groups"):
        found |= {f"allowed_{names}": allow[names]} if names in allow else {}
        found |= {f"admin_{names}": admins[names]} if names in admins else {}
    return found


def _login_trait(path: KeyPath) -> KeyPath:
    """The trait in any of an authenticator's sections, and what is inside; nothing for other values."""
    inside = path[path.index("config") + 1 :] if "config" in path else ()
    return inside[1:] if inside and inside[0] in _LOGIN_SECTIONS else ()


def _in_one_section(path: KeyPath) -> KeyPath:
    """Where tidehub writes what may stand in any of an authenticator's sections."""
    trait = _login_trait(path)
    return (*path[: -len(trait) - 1], "GenericOAuthenticator", *trait) if trait else path


def _same_code(original: Any, gateway: Any, carried: Mapping[str, Any]) -> bool:
    """Whether rendered values of dask-gateway set the limits and choices that the original Python set."""
    code = _at(gateway, ("extraConfig",))
    wanted, got = _recovered({"": original}), _recovered(code if isinstance(code, dict) else {})
    for trait, value in wanted.settings.items():
        if trait == "image":
            continue  # becomes a value of the chart, gateway.backend.image
        kind, _, what = trait.partition("_")
        now = got.settings.get(trait)
        if now is None and kind in ("scheduler", "worker"):
            now = _at(gateway, ("backend", kind, what, "request"))
        if not _same_amount(value, now):
            return False
    dask = carried.get("SiteBackend", {}).get("site", {}).get("dask", {})
    for name in ("cores", "memory"):
        chosen: Range | None = getattr(wanted, name)
        if chosen is not None and asdict(chosen) != dask.get("worker", {}).get(name):
            return False
    image = dask.get("image", {})
    if wanted.image is not None and (wanted.image or "profile") != image.get("default"):
        return False
    return wanted.image_choice is None or wanted.image_choice == image.get("choice")


def _same_amount(value: Any, other: Any) -> bool:
    return value == other or (trait_bytes(value) is not None and trait_bytes(value) == trait_bytes(other))


def _recovered(codes: dict[str, Any]) -> Recovered:
    found = Recovered()
    for name in sorted(codes):
        tree = parse(str(codes[name]))
        if tree is None:
            continue
        part = recover(Statements(str(codes[name]), tree))
        found.settings |= part.settings
        if part.options_found:
            found.cores, found.memory = part.cores, part.memory
            found.image, found.image_choice = part.image, part.image_choice
    return found


def _written_path(document: Document, leaf: LeafFate) -> KeyPath | None:
    """Where the value stands in its own file: below the key of a chart around it, or in an Ingress object."""
    if document.places.get(leaf.path) == leaf.where:
        return leaf.path
    return next((path for path, place in document.places.items() if place == leaf.where), None)


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        inside = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if not inside and not (isinstance(data, dict) and part in data):
            return None
        data = data[part]
    return data
