"""Secrets among the values that are passed through: told by their names and looks, kept out of the site file."""

from __future__ import annotations

import ast
import re
from typing import Any

from tidehub.importing.python_reading import parse
from tidehub.secrets.placeholders import is_placeholder

_NAMES = re.compile(
    r"secret|passw|passphrase|token|credential|api_?key|private_?key|access_?key|(crypt|cookie|signing|auth)_?key|"
    r"ssh_?key|htpasswd|dockerconfigjson|(^|_)pw(d)?$",
    re.IGNORECASE,
)
# Names of Kubernetes objects and switches, not secrets themselves.
_REFERENCES = re.compile(
    r"secret_?(name|key_?(ref)?|ref)$|existing_?secret$|(pull|image)_?secrets?$|token_?(url|params|uri|endpoint|path|"
    r"expir\w*|scopes?|age|ttl|max_age\w*)$|password_?(file|hash_?algorithm|length)$|"
    r"from_?secret_?\w*$|secret_?sync$|service_?account_?token$|(_|-)?(file|path|url|name|expires\w*)$",
    re.IGNORECASE,
)
_LOOKS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|://[^/\s:@]+:[^/\s@]+@|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}"
)


def is_secret(name: str, value: Any) -> bool:
    """Whether a value under this name, or one that looks like this, must not be read by others."""
    if not isinstance(value, str) or not value.strip() or value.startswith("$("):
        return False
    if _LOOKS.search(value):
        return True
    plain = name.replace("-", "_")
    return bool(_NAMES.search(plain)) and not _REFERENCES.search(plain) and not is_placeholder(value)


def holds_secret(value: Any, name: str = "") -> bool:
    """Whether any value in it is a secret. Knows lists of `name`/`value` pairs and Python code."""
    if isinstance(value, dict):
        pair = value.get("name")
        if isinstance(pair, str) and is_secret(pair, value.get("value")):
            return True
        return any(holds_secret(inner, key) for key, inner in value.items())
    if isinstance(value, list):
        return any(holds_secret(inner, name) for inner in value)
    return is_secret(name, value) or (isinstance(value, str) and "\n" in value and code_holds_secret(value))


def code_holds_secret(code: str) -> bool:
    """Whether Python code, or a configuration file, sets a text under a secret's name."""
    tree = parse(code)
    if tree is None:
        return bool(_IN_TEXT.search(code))
    for node in ast.walk(tree):
        pairs: list[tuple[ast.expr | str | None, ast.expr]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.keyword):
            pairs = [(node.arg, node.value)]
        elif isinstance(node, ast.Dict):
            pairs = list(zip(node.keys, node.values, strict=True))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _LOOKS.search(node.value):
            return True
        if any(is_secret(_name(key), text) for key, value in pairs for text in _texts(value)):
            return True
    return False


_IN_TEXT = re.compile(r"(?im)(secret|passw\w*|token|api_?key)\w*\s*[=:]\s*['\"]?[^\s'\"]{6,}")


def _name(node: ast.expr | str | None) -> str:
    if isinstance(node, str):
        return node
    if isinstance(node, ast.Subscript):
        node = node.slice
    if isinstance(node, ast.Constant):
        return str(node.value)
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _texts(node: ast.expr) -> list[str]:
    if isinstance(node, (ast.List, ast.Tuple)):
        return [text for item in node.elts for text in _texts(item)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
