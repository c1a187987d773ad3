"""The spawn page's choices: `singleuser.image` and `singleuser.profileList` become `notebooks.profiles`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidehub.importing.draft import Chosen, Draft, cores, is_line, size
from tidehub.importing.fates import ChartValues
from tidehub.importing.quantities import kubernetes_bytes, kubernetes_cores, trait_bytes
from tidehub.site.model import slug_of
from tidehub.site.problems import KeyPath
from tidehub.site.units import parse_cores, parse_size

_BASE: KeyPath = ("singleuser", "profileList")
_KEY = "notebooks.profiles"


def import_profiles(hub: ChartValues, draft: Draft) -> None:
    """Set `notebooks.profiles`; runs after the sizes of all servers are known."""
    image = _default_image(hub)
    listed = hub.get(*_BASE)
    if isinstance(listed, list) and listed and all(_has_name(item) for item in listed):
        profiles = [_Profile(hub, draft, index, item, image).made() for index, item in enumerate(listed)]
        _tell_apart(hub, profiles)
        _one_default(hub, profiles)
        _image_of_all(hub, profiles, image)
        draft.put(_KEY, profiles, hub.place(_BASE))
        return
    if hub.has(*_BASE):
        if listed in ([], None):
            hub.dropped(_BASE, "no choices")
        else:
            hub.passed(
                _BASE, "the profiles are not a list of mappings with a display_name, so they stay as they are"
            )
    if image is None:
        draft.choose(_KEY, [{"name": "Standard", "default": True}], "the values name no image", "Standard")
        return
    name = image.rsplit("/", 1)[-1].split("@")[0].split(":")[0]
    profile = {"name": name, "default": True, "image": image}
    draft.put(_KEY, [profile], hub.place(("singleuser", "image")))
    draft.chosen.append(_named(name))
    for part in ("name", "tag"):
        _image_remark(hub, ("singleuser", "image", part), f"{_KEY}[0].image", image)


def _named(name: str) -> Chosen:
    return Chosen(f"{_KEY}[0].name", name, "the values have no profiles; this is the image's name")


def _has_name(item: Any) -> bool:
    return isinstance(item, dict) and is_line(item.get("display_name"))


def _default_image(hub: ChartValues) -> str | None:
    name, tag = hub.text("singleuser", "image", "name"), hub.get("singleuser", "image", "tag")
    if name is None or len(name) > 200 or (name + str(tag)).count(" "):
        return None
    number = isinstance(tag, (int, float)) and not isinstance(tag, bool)
    if number or is_line(tag):
        return f"{name}:{str(tag).strip()}"
    return name if tag in (None, "") else None


def _image_remark(hub: ChartValues, path: KeyPath, key: str, image: str) -> None:
    value = hub.get(*path)
    if path[-1] == "tag" and isinstance(value, (int, float)):
        hub.translated(
            path, key, f"YAML reads this as a number, so the tag is {value}; quote it if another is meant"
        )
    elif path[-1] == "tag" and value == "latest":
        hub.translated(
            path, key, "latest changes without notice, and its jupyterhub may stop fitting the hub"
        )
    else:
        hub.understood(path, key)


def _image_of_all(hub: ChartValues, profiles: list[dict[str, Any]], image: str | None) -> None:
    if image is None:
        return
    own = [index for index, profile in enumerate(profiles) if profile.get("image") == image]
    for part in ("name", "tag"):
        path: KeyPath = ("singleuser", "image", part)
        if own:
            _image_remark(hub, path, f"{_KEY}[{own[0]}].image", image)
        else:
            hub.dropped(path, "every profile names an image of its own")


def _tell_apart(hub: ChartValues, profiles: list[dict[str, Any]]) -> None:
    names: set[str] = set()
    slugs: set[str] = set()
    for index, profile in enumerate(profiles):
        name, number = profile["name"], 2
        while profile["name"].casefold() in names:
            profile["name"], number = f"{name[:240]} ({number})", number + 1
        if number > 2:
            remark = f"another profile has this name, so it is called {profile['name']!r}"
            hub.fates.pop((*_BASE, index, "display_name"), None)
            hub.translated((*_BASE, index, "display_name"), f"{_KEY}[{index}].name", remark)
        names.add(profile["name"].casefold())
        slug = profile.get("slug") or slug_of(profile["name"])
        if slug in slugs:
            profile["slug"] = slug = f"{slug[:55].rstrip('-')}-{index}"
        slugs.add(slug)


def _one_default(hub: ChartValues, profiles: list[dict[str, Any]]) -> None:
    defaults = [profile for profile in profiles if profile.get("default")]
    if not defaults:
        profiles[0]["default"] = True
    for profile in defaults[1:]:
        index = profiles.index(profile)
        del profile["default"]
        path = (*_BASE, index, "default")
        hub.fates.pop(path, None)
        hub.translated(
            path, f"{_KEY}[{index}].default", "only one profile is preselected: the first that says so"
        )


class _Profile:
    def __init__(
        self, hub: ChartValues, draft: Draft, index: int, item: dict[str, Any], image: str | None
    ) -> None:
        self.hub, self.draft, self.item, self.image = hub, draft, item, image
        self.path: KeyPath = (*_BASE, index)
        self.key = f"{_KEY}[{index}]"

    def made(self) -> dict[str, Any]:
        made: dict[str, Any] = {"name": self.item["display_name"].strip()}
        self.understood("display_name", "name")
        slug = self.item.get("slug")
        if isinstance(slug, str) and slug_of(slug) == slug:
            if slug != slug_of(made["name"]):
                made["slug"] = slug
            self.understood("slug", "slug")
        if self.item.get("default") is True:
            made["default"] = True
            self.understood("default", "default")
        elif self.item.get("default") is False:
            self.understood("default", "default")
        text = self.item.get("description")
        if isinstance(text, str) and len(text) <= 2000:
            made["description"] = text
            self.understood("description", "description")
        self.overridden(made)
        if self.image is not None:
            made.setdefault("image", self.image)
        for name in self.item:
            known = ("display_name", "slug", "default", "description", "kubespawner_override")
            if name not in known:
                self.hub.passed((*self.path, name), f"a profile of a site file has no {name}; {_WHOLE}")
        order = ("name", "slug", "default", "description", "image", "cpu", "memory")
        return {key: made[key] for key in order if key in made}

    def understood(self, name: str, key: str) -> None:
        self.hub.understood((*self.path, name), f"{self.key}.{key}")

    def overridden(self, made: dict[str, Any]) -> None:
        own = self.item.get("kubespawner_override")
        if not isinstance(own, dict):
            return
        below = (*self.path, "kubespawner_override")
        if is_line(own.get("image")) and " " not in own["image"].strip():
            made["image"] = own["image"].strip()
            self.hub.understood((*below, "image"), f"{self.key}.image")
        self.amounts(made, own, "cpu", ("cpu_guarantee", "cpu_limit"), kubernetes_cores, cores)
        self.amounts(made, own, "memory", ("mem_guarantee", "mem_limit"), _memory, size)
        for name in own:
            self.hub.passed((*below, name), f"KubeSpawner's {name} has no key in a profile; {_WHOLE}")

    def amounts(
        self,
        made: dict[str, Any],
        own: dict[str, Any],
        name: str,
        traits: tuple[str, str],
        read: Callable[[Any], Any],
        written: Callable[[Any], Any],
    ) -> None:
        """Guarantee and limit of one profile. A site file states both, so the missing one is that of all servers."""
        stated = [read(own.get(trait)) for trait in traits]
        if stated == [None, None]:
            return
        common = self.draft.get(f"notebooks.{name}")
        usual = [_back(common["guarantee"]), _back(common["limit"])]
        guarantee, limit = (
            given if given is not None else usual[place] for place, given in enumerate(stated)
        )
        if stated[0] is None:
            guarantee = min(guarantee, limit)
        if stated[1] is None:
            limit = max(guarantee, limit)
        made[name] = {"guarantee": written(guarantee), "limit": written(limit)}
        for trait, part, given in zip(traits, ("guarantee", "limit"), stated, strict=True):
            if given is not None:
                path = (*self.path, "kubespawner_override", trait)
                self.hub.understood(path, f"{self.key}.{name}.{part}")


_WHOLE = "the whole list is kept, because Helm replaces lists, and hides notebooks.profiles on Kubernetes"


def _memory(value: Any) -> int | None:
    amount = trait_bytes(value)
    return amount if amount is not None else kubernetes_bytes(value)


def _back(written: Any) -> Any:
    """The amount behind what a draft says."""
    if isinstance(written, str):
        return parse_size(written)
    return parse_cores(written)
