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


def holds_secret(value: Any, name: str = "", *, code: bool = False) -> bool:
    """Whether any value in it is a secret. Knows lists of `name`/`value` pairs; `code` says that texts are Python."""
    if isinstance(value, dict):
        pair = value.get("name")
        if isinstance(pair, str) and is_secret(pair, value.get("value")):
            return True
        return any(holds_secret(inner, key, code=code) for key, inner in value.items())
    if isinstance(value, list):
        return any(holds_secret(inner, name, code=code) for inner in value)
    if not isinstance(value, str):
        return False
    return is_secret(name, value) or (code_holds_secret(value) if code else _text_holds_secret(value))


def _text_holds_secret(text: str) -> bool:
    """Whether a configuration file or a command line sets a value under a secret's name."""
    return any(is_secret(found[1], found[2]) for found in _IN_TEXT.finditer(text))


def code_holds_secret(code: str) -> bool:
    """Whether Python code sets a text under a secret's name."""
    tree = parse(code)
    if tree is None:
        return _text_holds_secret(code)
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


_IN_TEXT = re.compile(r"""([A-Za-z_][\w-]{0,60})['"]?[ \t]*[=:][ \t]*['"]?([^\s'"]{6,200})""")


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
