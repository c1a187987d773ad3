"""What the handler of dask-gateway's cluster options makes of the chosen values, read from its syntax alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from tidehub.importing.python_reading import NotLiteral, literal

_SUFFIXES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Chosen:
    """What a user chose for a field, times a factor."""

    field: str
    factor: Fraction = Fraction(1)
    is_text: bool = False


class Unclear(ValueError):
    """Why the options cannot be stated in a site file; as the operator reads it."""


class Handler:
    """What a handler makes of the chosen values. `lenient` overlooks what is not understood."""

    def __init__(
        self,
        arguments: ast.arguments,
        names: Mapping[str, Any],
        targets: dict[str, str],
        *,
        lenient: bool = False,
    ) -> None:
        if not 1 <= len(arguments.args) <= 2:
            raise Unclear("its handler takes other arguments")
        self.options = arguments.args[0].arg
        self.targets = targets
        self.lenient = lenient
        self.tagged = False
        self.pieces: dict[str, set[str]] = {}
        self.names: dict[str, Any] = dict(names)

    def run(self, body: list[ast.stmt]) -> tuple[dict[str, Any], bool]:
        """The traits that the handler returns, and whether it asks for a tag on the image. Raises `Unclear`."""
        returned = self.block(body)
        if returned is None:
            raise Unclear("its handler returns nothing")
        return returned, self.tagged

    def block(self, body: list[ast.stmt]) -> dict[str, Any] | None:
        for statement in body:
            match statement:
                case ast.Expr(value=ast.Constant()):
                    continue
                case ast.If(test=test, body=[ast.Raise()], orelse=[]) if self.asks_for_tag(test):
                    self.tagged = True
                case ast.If(test=ast.Attribute(value=ast.Name(id=owner)), body=inner, orelse=[]) if (
                    owner == self.options and not any(isinstance(item, ast.Return) for item in inner)
                ):
                    # Only what a user chose counts, which is what an empty choice means anyway.
                    self.block(inner)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.assign(name, value)
                case ast.Assign(
                    targets=[
                        ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str() as key)),
                    ],
                    value=value,
                ) if isinstance(self.names.get(name), dict):
                    self.names[name] = {**self.names[name], key: self.known(value)}
                case ast.Return(value=ast.Dict(keys=keys, values=values)):
                    return {self.key(key): self.known(value) for key, value in zip(keys, values, strict=True)}
                case ast.Return(value=ast.Name(id=name)) if isinstance(self.names.get(name), dict):
                    return dict(self.names[name])
                case _ if self.lenient:
                    continue
                case _:
                    raise Unclear(
                        f"its handler does more than translate (line {statement.lineno} of the code)"
                    )
        return None

    def assign(self, name: str, value: ast.expr) -> None:
        try:
            self.names[name] = self.value(value)
        except Unclear:
            if not self.fields_in(value) and not self.lenient:
                raise
            # A piece of what was chosen: good for a check of the tag, for nothing else.
            self.names.pop(name, None)
            self.pieces[name] = self.fields_in(value)

    def fields_in(self, node: ast.expr) -> set[str]:
        """The fields whose chosen values an expression reads."""
        found: set[str] = set()
        for inner in ast.walk(node):
            if isinstance(inner, ast.Attribute) and name_of(inner.value) == self.options:
                found |= {self.targets[inner.attr]} if inner.attr in self.targets else set()
            elif isinstance(inner, ast.Name):
                found |= self.pieces.get(inner.id, set())
        return found

    def key(self, node: ast.expr | None) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        raise Unclear("its handler returns computed names")

    def asks_for_tag(self, test: ast.expr) -> bool:
        match test:
            case ast.Compare(left=ast.Constant(value=":"), ops=[ast.NotIn()], comparators=[text]):
                return bool(self.fields_in(text))
        return False

    def known(self, node: ast.expr) -> Any:
        try:
            return self.value(node)
        except Unclear:
            if self.lenient:
                return None
            raise

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=target) if owner == self.options:
                if target not in self.targets:
                    raise Unclear(f"its handler reads {target}, which is not a field")
                return Chosen(self.targets[target])
            case ast.Name(id=name) if isinstance(self.names.get(name), (Chosen, dict)):
                return self.names[name]
            case ast.Dict(keys=keys, values=values) if keys:
                return {self.key(key): self.value(value) for key, value in zip(keys, values, strict=True)}
            case ast.Call(func=ast.Name(id="int" | "float" | "round"), args=[inner], keywords=[]):
                return self.value(inner)
            case ast.BinOp(left=ast.Constant(value=str() as pattern), op=ast.Mod(), right=inner):
                return self.text(pattern, r"%[\d.]*[dfgs]\s?([KMGT]?)", inner)
            case ast.Call(
                func=ast.Attribute(value=ast.Constant(value=str() as pattern), attr="format"),
                args=[inner],
                keywords=[],
            ):
                return self.text(pattern, r"\{(?::[\d.]*[dfg]?)?\}\s?([KMGT]?)", inner)
            case ast.JoinedStr(values=[ast.FormattedValue(value=inner), *rest]) if len(rest) <= 1:
                suffix = rest[0].value if rest and isinstance(rest[0], ast.Constant) else ""
                return self.text(str(suffix), r"\s?([KMGT]?)", inner)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return self.times(left, right)
        try:
            return literal(node, self.names)
        except NotLiteral:
            raise Unclear("its handler computes more than a unit") from None

    def times(self, left: ast.expr, right: ast.expr) -> Any:
        a, b = self.value(left), self.value(right)
        chosen, factor = (a, b) if isinstance(a, Chosen) else (b, a)
        number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if isinstance(chosen, Chosen) and number and not chosen.is_text:
            return replace(chosen, factor=chosen.factor * Fraction(factor))
        try:
            return literal(ast.BinOp(left, ast.Mult(), right), self.names)
        except NotLiteral:
            raise Unclear("its handler computes more than a unit") from None

    def text(self, pattern: str, shape: str, inner: ast.expr) -> Chosen:
        found = re.fullmatch(shape, pattern.strip())
        chosen = self.value(inner)
        if found is None or not isinstance(chosen, Chosen):
            raise Unclear("its handler makes a text that is not an amount")
        return replace(chosen, factor=chosen.factor * _SUFFIXES[found[1]], is_text=True)


def name_of(node: ast.expr) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))
