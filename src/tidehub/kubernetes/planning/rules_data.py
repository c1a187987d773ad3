"""What may lose data: PVCs, homes, names of users, the hub's database. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tidehub import program
from tidehub.kubernetes.homes.carried import finds_homes
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.planning import hub_schema
from tidehub.kubernetes.planning.facts import Facts, HubValues
from tidehub.kubernetes.planning.model import Finding
from tidehub.kubernetes.planning.observe import Observation
from tidehub.kubernetes.planning.quantities import amount
from tidehub.kubernetes.planning.subjects import is_kept
from tidehub.site.charts import parts

KUBESPAWNER_7 = (4, 0, 0)
"""jupyterhub chart with KubeSpawner 7 and its `safe` names (its guide `Upgrade from 3 to 4`)."""
_NAME_FIELDS = ("{username}", "{servername}", "{unescaped_username}", "{unescaped_servername}")
"""Template fields whose values are other ones under KubeSpawner 7."""
_USER_NAME_KEYS = ("username_claim", "username_key")


def findings(facts: Facts) -> Iterator[Finding]:
    """All of them, in no order."""
    for one in facts.of_kind("PersistentVolumeClaim"):
        yield from _pvc(one, facts)
    for one in facts.of_kind("StatefulSet"):
        yield from _pvc_templates(one)
    for one in facts.of_kind("Namespace"):
        if one.subject.new is None and one.live is not None:
            yield Finding(
                "data-loss", "danger", f"The namespace {one.subject.id.name} would be deleted, with all that is in it.",
                "Every home, the hub's database and every server in it are gone.",
                "keep it: take it out of what is deployed by hand", (one.subject.id,),
            )  # fmt: skip
    before, after = facts.hub_before, facts.hub_after
    if before is not None and after is not None:
        yield from _homes(before, after)
        yield from _pvc_names(before, after)
        yield from _user_names(before, after)
        yield from _database(before, after)


def _pvc(one: Observation, facts: Facts) -> Iterator[Finding]:
    id, new, live = one.subject.id, one.subject.new, one.live
    if live is None:
        return
    if new is None:
        if one.subject.protected or is_kept(live):
            return
        heir = next(
            (
                other.subject.id
                for other in facts.of_kind("PersistentVolumeClaim")
                if other.live is None and other.subject.new is not None and _alike(other.subject.new, live)
            ),
            None,
        )
        what = f"The PVC {id.name} would be deleted" + (f" and {heir.name} made in its place" if heir else "")
        yield Finding(
            "data-loss", "danger", f"{what}: what is on its volume is lost.",
            _held_by(one) + "With a StorageClass that reclaims by Delete, the volume goes with the PVC.",
            f"keep it: kubectl -n {id.namespace} annotate pvc {id.name} helm.sh/resource-policy=keep; and back up",
            (id,) if heir is None else (id, heir),
        )  # fmt: skip
        return
    old_size, new_size = _size(live), _size(new)
    if old_size is not None and new_size is not None and amount(new_size) < amount(old_size):  # type: ignore[operator]
        yield Finding(
            "data-loss", "danger", f"The PVC {id.name} would shrink from {old_size} to {new_size}.",
            "No volume can be made smaller: the server refuses it.",
            f"set the size to {old_size} or more", (id,),
        )  # fmt: skip
    old_class, new_class = ((obj.get("spec") or {}).get("storageClassName") for obj in (live, new))
    if new_class is not None and old_class != new_class:
        yield Finding(
            "data-loss", "danger",
            f"The PVC {id.name} would move from the StorageClass {old_class or 'of the default'} to {new_class}.",
            "A PVC keeps the class that it was made with: only a new PVC has another, and it is empty.",
            f"leave the StorageClass at {old_class or 'none'}, or back up, delete the PVC and restore", (id,),
        )  # fmt: skip


def _pvc_templates(one: Observation) -> Iterator[Finding]:
    if any(change.path[:2] == ("spec", "volumeClaimTemplates") for change in one.changes):
        id = one.subject.id
        yield Finding(
            "data-loss", "danger", f"The PVCs that {id} makes for its pods would change.",
            "The server refuses it; deleting the set and making it anew leaves the old PVCs behind.",
            "back up, and move the data to the new PVCs by hand", (id,),
        )  # fmt: skip


def _homes(before: HubValues, after: HubValues) -> Iterator[Finding]:
    storage = ("singleuser", "storage")
    old, new = before.at(*storage, "type"), after.at(*storage, "type")
    if old != new and old in ("dynamic", "static"):
        yield Finding(
            "data-loss", "danger", f"Users' homes would change from {old} to {new} storage.",
            "Nobody finds their files: the old PVCs stay in the namespace, and no server mounts them.",
            f"keep singleuser.storage.type: {old}, or move the files first",
        )  # fmt: skip
        return
    for what, *path in (
        ("are mounted", "homeMountPath"),
        ("lie in the shared volume", "static", "subPath"),
        ("lie in their volume", "dynamic", "subPath"),
        ("come from the PVC", "static", "pvcName"),
    ):
        if path[0] in ("static", "dynamic") and path[0] != new:
            continue
        one, other = before.at(*storage, *path), after.at(*storage, *path)
        if one != other and one:
            yield Finding(
                "data-loss", "danger", f"Users' homes {what} elsewhere: {one} before, {other or 'nothing'} after.",
                "Users find an empty directory where their files were; the files are still in the volumes.",
                f"keep singleuser.storage.{'.'.join(path)}: {one}",
            )  # fmt: skip
    if new == "static" and _to_kubespawner_7(before, after):
        sub = after.at(*storage, "static", "subPath")
        if isinstance(sub, str) and any(name in sub for name in _NAME_FIELDS) and not _escapes(after):
            yield _slugs("homes in the shared volume", f"singleuser.storage.static.subPath ({sub})")


def _pvc_names(before: HubValues, after: HubValues) -> Iterator[Finding]:
    if after.at("singleuser", "storage", "type") != "dynamic":
        return
    template = ("singleuser", "storage", "dynamic", "pvcNameTemplate")
    old, new = before.at(*template), after.at(*template)
    crosses = _to_kubespawner_7(before, after)
    if finds_homes(after.at("hub")):
        if crosses or old != new:
            yield Finding(
                "pvc-names", "notice", "New PVCs of users are named in another way.",
                "Users who have a PVC keep it: the hub finds it by whose it is.",
            )  # fmt: skip
    elif new and crosses and not _escapes(after) and any(name in new for name in _NAME_FIELDS):
        yield _slugs("PVCs", f"{'.'.join(template)} ({new})")
    elif old and new and old != new:
        yield Finding(
            "pvc-names", "danger", f"Users' PVCs would be named {new} instead of {old}.",
            "A server that starts makes a new, empty PVC: the files are in the old one.",
            f"keep {'.'.join(template)}: {old}",
        )  # fmt: skip
    elif crosses and not new and not _escapes(after):
        yield Finding(
            "pvc-names", "danger", "KubeSpawner 7 names new PVCs in another way.",
            "This hub's spawner is the site's own: users whose server runs meanwhile, and whose names have other "
            "characters than a-z and 0-9, get an empty home.",
            "take hub.config.JupyterHub.spawner_class out of the overrides",
        )  # fmt: skip


def _user_names(before: HubValues, after: HubValues) -> Iterator[Finding]:
    classes = tuple(each.at("hub", "config", "JupyterHub", "authenticator_class") for each in (before, after))
    if classes[0] != classes[1] and all(classes):
        yield Finding(
            "pvc-names", "danger", f"Users sign in by {classes[1]} instead of {classes[0]}.",
            "Whoever gets another user name gets a new, empty home, and loses admin rights and tokens.",
            "compare the user names of both before, and rename users or PVCs",
        )  # fmt: skip
        return
    one, other = _user_name_claim(before), _user_name_claim(after)
    if one and other and one != other:
        yield Finding(
            "pvc-names", "danger", f"User names would come from the claim {other} instead of {one}.",
            "Every user becomes a new one with a new, empty home; the old homes stay under the old names.",
            f"keep login.username_claim: {one}, or rename users and PVCs first",
        )  # fmt: skip


def _database(before: HubValues, after: HubValues) -> Iterator[Finding]:
    for key, words in (("type", "kind"), ("url", "address")):
        one, other = before.at("hub", "db", key), after.at("hub", "db", key)
        if one != other:
            shown = f" ({one} before, {other} after)" if key == "type" else ""
            yield Finding(
                "database", "danger", f"The hub would use another database: its {words} changes{shown}.",
                "The hub starts with what is in that one: everybody is signed out, and users, tokens and running "
                "servers that it does not know are forgotten.",
                f"copy the database first ({program.command('backup')})",
            )  # fmt: skip
    old, new = before.hub, after.hub
    match hub_schema.migration(old, new) if old and new else "same":
        case "forward":
            yield Finding(
                "database", "danger", f"JupyterHub {new} changes the database of JupyterHub {old}.",
                f"Its schema goes from {hub_schema.head(old)} to {hub_schema.head(new)} when the hub starts; the older "
                "hub cannot read it afterwards.",
                f"back up before ({program.command('backup')}): going back means restoring that copy",
            )  # fmt: skip
        case "backward":
            yield Finding(
                "downgrade", "danger", f"JupyterHub {new} cannot read the database of JupyterHub {old}.",
                f"It knows nothing of the schema {hub_schema.head(old)} and does not start: `Can't locate revision "
                f"identified by '{hub_schema.head(old)}'`.",
                f"restore a backup from before the upgrade ({program.command('restore')}), or stay with the "
                "newer chart",
            )  # fmt: skip
        case "unknown":
            yield Finding(
                "database", "notice", f"It is not known whether JupyterHub {new} changes the database of {old}.",
                fix=f"back up before ({program.command('backup')})",
            )  # fmt: skip


def _to_kubespawner_7(before: HubValues, after: HubValues) -> bool:
    return bool(before.chart) and parts(before.chart) < KUBESPAWNER_7 <= parts(after.chart)


def _escapes(hub: HubValues) -> bool:
    return bool(hub.at("hub", "config", "KubeSpawner", "slug_scheme") == "escape")


def _slugs(what: str, key: str) -> Finding:
    return Finding(
        "pvc-names", "danger", f"KubeSpawner 7 gives some users' {what} other names.",
        f"{key} holds a user's name, which is written differently for names with capitals, dots, @ or _: these users "
        "find an empty home; their files are under the old name.",
        "set hub.config.KubeSpawner.slug_scheme: escape, or use {escaped_username} in the template",
    )  # fmt: skip


def _user_name_claim(hub: HubValues) -> str:
    config: Any = hub.at("hub", "config") or {}
    name = str(hub.at("hub", "config", "JupyterHub", "authenticator_class") or "")
    for section, traits in config.items() if isinstance(config, dict) else ():
        if isinstance(traits, dict) and (name in ("", section) or section.endswith("Authenticator")):
            for key in _USER_NAME_KEYS:
                if isinstance(traits.get(key), str):
                    return str(traits[key])
    return ""


def _held_by(one: Observation) -> str:
    labels = ((one.live or {}).get("metadata") or {}).get("labels") or {}
    component = labels.get("component") or labels.get("app.kubernetes.io/component")
    if component == "hub" or one.subject.id.name in ("hub-db-dir", "hub-db"):
        return "It holds the hub's database: users, tokens and running servers. "
    return ""


def _alike(one: Object, other: Object) -> bool:
    """Whether two PVCs serve the same purpose: same component, or no labels and the same size."""
    found = []
    for obj in (one, other):
        labels = (obj.get("metadata") or {}).get("labels") or {}
        found.append(labels.get("component") or labels.get("app.kubernetes.io/component") or _size(obj))
    return found[0] == found[1]


def _size(pvc: Object) -> str | None:
    requests = ((pvc.get("spec") or {}).get("resources") or {}).get("requests") or {}
    size = requests.get("storage")
    return None if size is None or amount(size) is None else str(size)
