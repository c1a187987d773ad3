"""Python configuration read by parsing alone: nothing of it is ever executed.

`literal` evaluates constants and plain arithmetic; `Statements` takes a text apart and keeps what was not understood.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tidehub.site.model.overrides import LONGEST_CODE

_LARGEST = 2**80
_MOST_TEXT = 10_000

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


class NotLiteral(ValueError):
    """An expression that parsing alone cannot evaluate."""


def parse(code: str) -> ast.Module | None:
    """The syntax tree; None when the text is not a Python."""
    if len(code) > LONGEST_CODE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def literal(node: ast.expr, names: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    """The value of constants, lists, dicts, arithmetic, `int(...)` and `float(...)`. Raises `NotLiteral`."""
    if depth > 50:
        raise NotLiteral("too deep")

    def inner(part: ast.expr) -> Any:
        return literal(part, names, depth + 1)

    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, (str, int, float, bool)):
            return value
        case ast.Name(id=name) if names is not None and name in names:
            return names[name]
        case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Set(elts=items):
            return [inner(item) for item in items]
        case ast.Dict(keys=keys, values=values) if all(key is not None for key in keys):
            pairs = [(inner(key), inner(value)) for key, value in zip(keys, values, strict=True) if key]
            if all(isinstance(key, str) for key, _ in pairs):
                return dict(pairs)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(inner(operand))
        case ast.BinOp(left=left, op=op, right=right):
            return _arithmetic(op, inner(left), inner(right))
        case ast.Call(func=ast.Name(id="int"), args=[argument], keywords=[]):
            return int(_number(inner(argument)))
        case ast.Call(func=ast.Name(id="float"), args=[argument], keywords=[]):
            return float(_number(inner(argument)))
    raise NotLiteral(ast.dump(node)[:100])


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise NotLiteral("not a number")
    return value


def _arithmetic(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(op, ast.Add) and isinstance(left, str) and isinstance(right, str):
        if len(left) + len(right) > _MOST_TEXT:
            raise NotLiteral("too long")
        return left + right
    action = _OPERATORS.get(type(op))
    if action is None or abs(_number(left)) > _LARGEST or abs(_number(right)) > _LARGEST:
        raise NotLiteral("not plain arithmetic")
    if isinstance(op, ast.Pow) and not (0 <= right <= 80 and abs(left) <= 10**6):
        raise NotLiteral("too large a power")
    try:
        result = action(left, right)
    except (ArithmeticError, ValueError):
        raise NotLiteral("not possible") from None
    if isinstance(result, complex) or abs(result) > _LARGEST:
        raise NotLiteral("too large")
    return result


def setting_of(statement: ast.stmt) -> tuple[str, str, ast.expr] | None:
    """Class, trait and value of `c.Class.trait = value`; None for anything else."""
    match statement:
        case ast.Assign(
            targets=[
                ast.Attribute(value=ast.Attribute(value=ast.Name(id="c"), attr=owner), attr=trait),
            ],
            value=value,
        ):
            return owner, trait, value
    return None


def names_loaded(node: ast.AST) -> set[str]:
    """Every name that a piece of code reads."""
    return {
        inner.id
        for inner in ast.walk(node)
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)
    }


def names_bound(statement: ast.stmt) -> set[str]:
    """The names that a helper (import, function, class, plain assignment) makes; empty for other statements."""
    match statement:
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return {(alias.asname or alias.name).split(".")[0] for alias in aliases}
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=[ast.Name(id=name)]):
            return {name}
    return set()


class Statements:
    """A text of Python, statement by statement. `take` what is understood; `rest` is the text of the others."""

    def __init__(self, code: str, tree: ast.Module) -> None:
        self.code = code
        self.body = tree.body
        self.names = _constants(tree.body)
        self._taken: set[int] = set()

    def __iter__(self) -> Iterator[ast.stmt]:
        return iter(self.body)

    def take(self, statement: ast.stmt) -> None:
        """This one is understood, and not needed any more."""
        self._taken.add(id(statement))

    def function(self, name: str) -> ast.FunctionDef | None:
        """The last function of that name."""
        found = [item for item in self.body if isinstance(item, ast.FunctionDef) and item.name == name]
        return found[-1] if found else None

    def assigned(self, name: str) -> ast.expr | None:
        """What a plain name was last set to."""
        found = [
            item.value for item in self.body if isinstance(item, ast.Assign) and names_bound(item) == {name}
        ]
        return found[-1] if found else None

    def rest(self) -> str:
        """The statements that were not taken, with the helpers that they need, as they were written."""
        kept = {id(item) for item in self.body if id(item) not in self._taken and not _is_helper(item)}
        while True:
            needed: set[str] = set()
            for item in self.body:
                if id(item) in kept:
                    needed |= names_loaded(item)
            more = {
                id(item)
                for item in self.body
                if id(item) not in kept
                and _is_helper(item)
                and (names_bound(item) & needed or _is_star(item))
            }
            if not more or (not kept and not needed):
                break
            kept |= more
        if not kept:
            return ""
        if len(kept) == len(self.body):
            return self.code
        lines = self.code.splitlines()
        shares = _lines_shared(self.body)
        gone = {
            number
            for item in self.body
            if id(item) not in kept and not shares & set(_lines_of(item))
            for number in _lines_of(item)
        }
        text = "\n".join(line for number, line in enumerate(lines, start=1) if number not in gone)
        return text.strip("\n") + "\n"


def _constants(body: list[ast.stmt]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for item in body:
        bound = names_bound(item)
        if isinstance(item, ast.Assign) and bound:
            try:
                names[bound.pop()] = literal(item.value, names)
            except NotLiteral:
                continue
    return names


def _is_helper(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return True  # a text that stands for itself
    # A call may do something when it runs, so its assignment is a statement in its own right.
    if isinstance(statement, ast.Assign):
        return bool(names_bound(statement)) and not any(
            isinstance(inner, ast.Call) and not _makes_options(inner) for inner in ast.walk(statement.value)
        )
    return bool(names_bound(statement)) and not getattr(statement, "decorator_list", None)


def _makes_options(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    return name in ("Options", "Integer", "Float", "String", "Select", "Bool", "Mapping", "int", "float")


def _is_star(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names)


def _lines_of(statement: ast.stmt) -> range:
    first = min([statement.lineno, *(item.lineno for item in getattr(statement, "decorator_list", []))])
    return range(first, (statement.end_lineno or statement.lineno) + 1)


def _lines_shared(body: list[ast.stmt]) -> set[int]:
    """Lines with more than one statement on them (`a = 1; b = 2`)."""
    seen: set[int] = set()
    shared: set[int] = set()
    for item in body:
        lines = set(_lines_of(item))
        shared |= seen & lines
        seen |= lines
    return shared
