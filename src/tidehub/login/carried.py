"""Modules of ours as Python text, for a program whose image has none of them: a hub's or a gateway's configuration.

What travels needs the standard library and what that image has, nothing else; tests hold it to that. Pure.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from importlib import resources

_HEAD = '''\
import sys
import types


def _module(name, source):
    """A module from its text; what is installed under that name does not count."""
    parent, _, child = name.rpartition(".")
    if parent and parent not in sys.modules:
        _module(parent, None)
    module = sys.modules[name] = types.ModuleType(name)
    if source is None:
        module.__path__ = []
    else:
        exec(compile(source, f"<{name}, carried by the configuration>", "exec"), module.__dict__)
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


'''


def modules_text(names: Sequence[str]) -> str:
    """Python text that makes these modules of `tidehub` importable, in this order: `login.rule`, `site.units`.

    It may be executed twice in one process: a module that is there already is made anew from its text, and the
    packages around it stay.
    """
    return _HEAD + "".join(f'_module("tidehub.{name}", {_quoted(source(name))})\n' for name in names)


def source(name: str) -> str:
    """The text of a module below `tidehub`: `login.rule`."""
    package, _, module = f"tidehub.{name}".rpartition(".")
    return resources.files(package).joinpath(f"{module}.py").read_text(encoding="utf-8")


def _quoted(source: str) -> str:
    """Readable as it stands, in a chart's values too, where the text allows that."""
    readable = f"r'''\n{source}'''"
    try:
        if ast.literal_eval(readable) == f"\n{source}":
            return readable
    except SyntaxError:
        pass
    return repr(source)
