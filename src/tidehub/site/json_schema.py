"""The site file as JSON Schema (draft 2020-12), for editors. Made from the model: nothing is stated a second time.

It says what single values may be. What contradicts what, only `tidehub validate` knows.
"""

from __future__ import annotations

from typing import Any

from tidehub.site import describe
from tidehub.site.model import Site
from tidehub.site.units import SIZE_UNITS, TIME_UNITS

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NUMBER = r"[0-9]+(\.[0-9]+)?"
_SIZE = rf"^[ \t]*{_NUMBER}[ \t]*({'|'.join(SIZE_UNITS)})[ \t]*$"
_TIME = rf"{_NUMBER}[ \t]*({'|'.join(sorted(TIME_UNITS, key=len, reverse=True))})"
_DURATION = rf"^[ \t]*{_TIME}([ \t]*{_TIME})*[ \t]*$"
_CORES = rf"^[ \t]*{_NUMBER}m?[ \t]*$"

_QUANTITIES: dict[str, dict[str, Any]] = {
    "size": {"type": "string", "pattern": _SIZE, "examples": ["5 GiB", "500 MiB"]},
    "duration": {"type": "string", "pattern": _DURATION, "examples": ["20 min", "1 h"]},
    "timeout": {
        "anyOf": [{"type": "string", "pattern": _DURATION}, {"const": "never"}],
        "examples": ["20 min", "never"],
    },
    "cores": {
        "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": _CORES}],
        "examples": [2, 0.5, "500m"],
    },
    "whole cores": {
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "number", "minimum": 1, "multipleOf": 1}],
        "examples": [1, 2],
    },
}


def site_schema() -> dict[str, Any]:
    """The schema, with every key's description. Fresh for each call."""
    made = Site.model_json_schema(by_alias=True)
    definitions = made.pop("$defs", {})
    root = {"$schema": DIALECT, **made, "$defs": definitions, "title": "tidehub site file"}
    _rename(root)
    _complete(root, "", root)
    # A preset brings what is otherwise required.
    required = root.pop("required")
    root["anyOf"] = [{"required": required}, {"required": ["preset"]}]
    _drop_titles(root)
    return root


def _complete(section: dict[str, Any], prefix: str, root: dict[str, Any]) -> None:
    """Give quantities their patterns, and defaults as they would be written."""
    known = {key.name: key for key in describe.all_keys()}
    for name, field in section.get("properties", {}).items():
        key = known.get(f"{prefix}{name}") or known.get(f"{prefix}{name}[]")
        if key is None:
            continue
        if key.section is not None:
            field.pop("default", None)
            if (inner := _section_in(field, root)) is not None:
                _complete(inner, f"{key.name}.", root)
            continue
        if key.kind in _QUANTITIES:
            _quantity(field, key)
        if field.get("default") in (None, "", [], {}) or key.kind in _QUANTITIES:
            field.pop("default", None)
        if key.default not in ("", describe.NONE) and key.kind in _QUANTITIES and not key.only_with_section:
            field["default"] = float(key.default) if key.kind.endswith("cores") else key.default


def _quantity(field: dict[str, Any], key: describe.Key) -> None:
    optional = "anyOf" in field and any(one.get("type") == "null" for one in field["anyOf"])
    kept = {name: value for name, value in field.items() if name in ("description", "default")}
    field.clear()
    field.update(kept)
    quantity = _QUANTITIES[key.kind]
    if optional:
        examples = {name: value for name, value in quantity.items() if name == "examples"}
        field |= {
            "anyOf": [{k: v for k, v in quantity.items() if k != "examples"}, {"type": "null"}],
            **examples,
        }
    else:
        field |= quantity


def _section_in(field: dict[str, Any], root: dict[str, Any]) -> dict[str, Any] | None:
    """The definition that a property refers to. Where several do, its keys are of the same kinds for each."""
    if "$ref" in field:
        found: dict[str, Any] = root["$defs"][field["$ref"].rpartition("/")[2]]
        return found
    for inner in (*field.get("anyOf", ()), *field.get("allOf", ()), field.get("items") or {}):
        if (found_below := _section_in(inner, root)) is not None:
            return found_below
    return None


def _rename(root: dict[str, Any]) -> None:
    """pydantic names a generic section after all of its type's annotations; these names are shown in editors."""
    names = {}
    for name in root["$defs"]:
        section, annotated, kind = name.partition("_Annotated_")
        if annotated:
            names[name] = f"{section}Of{'Cores' if kind.startswith('float') else 'Sizes'}"
    root["$defs"] = {names.get(name, name): value for name, value in root["$defs"].items()}
    assert len(set(names.values())) == len(names), "two generic sections would share a name"
    _refer(root, names)


def _refer(node: Any, names: dict[str, str]) -> None:
    if isinstance(node, dict):
        name = str(node.get("$ref", "")).rpartition("/")[2]
        if name in names:
            node["$ref"] = f"#/$defs/{names[name]}"
        for value in node.values():
            _refer(value, names)
    elif isinstance(node, list):
        for value in node:
            _refer(value, names)


def _drop_titles(node: Any) -> None:
    """pydantic makes a title of every name; editors show it before the description, where it says nothing new."""
    if isinstance(node, dict):
        if isinstance(node.get("title"), str) and "$schema" not in node and ("type" in node or len(node) > 1):
            del node["title"]
        for value in node.values():
            _drop_titles(value)
    elif isinstance(node, list):
        for value in node:
            _drop_titles(value)
