"""dask-gateway's cluster options and limits, recovered from `gateway.extraConfig` where it follows the usual pattern.

c.ClusterConfig.cluster_max_cores = 4
c.Backend.cluster_options = Options(Integer("worker_cores", 1, min=1, max=2), ..., handler=function)
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tidehub.importing.options_handler import Chosen, Handler, Unclear, name_of
from tidehub.importing.python_reading import NotLiteral, Statements, literal, names_loaded, setting_of
from tidehub.importing.quantities import kubernetes_cores, trait_bytes

_CONFIG_CLASSES = ("ClusterConfig", "KubeClusterConfig")
_OPTION_OWNERS = ("Backend", "KubeBackend", "DaskGateway")
_FIELDS = {
    # Parameters after the field's name, in order (dask_gateway_server.options).
    "Integer": ("default", "min", "max", "label", "target"),
    "Float": ("default", "min", "max", "label", "target"),
    "String": ("default", "label", "target"),
    "Bool": ("default", "label", "target"),
    "Select": ("options", "default", "label", "target"),
    "Mapping": ("default", "label", "target"),
}


@dataclass(frozen=True)
class Range:
    """What users may choose, in cores or bytes."""

    min: int
    max: int
    default: int


@dataclass
class Recovered:
    """What was understood. `settings` are traits of dask-gateway's cluster configuration with their values."""

    settings: dict[str, Any] = field(default_factory=dict)
    cores: Range | None = None
    memory: Range | None = None
    image: str | None = None
    image_choice: str | None = None
    """`fixed`, `tagged` or `any`, as in `dask.image.choice`; None when nothing was said."""
    remarks: list[str] = field(default_factory=list)
    options_found: bool = False


@dataclass(frozen=True)
class _Field:
    kind: str
    name: str
    values: dict[str, Any]


def recover(statements: Statements) -> Recovered:
    """Read limits and options; takes the statements that are fully understood."""
    found = Recovered()
    for statement in statements:
        setting = setting_of(statement)
        if setting is None:
            continue
        owner, trait, value = setting
        if owner in _CONFIG_CLASSES and trait in _TRAITS:
            try:
                amount = literal(value, statements.names)
            except NotLiteral:
                found.remarks.append(
                    f"line {statement.lineno}: the value of {trait} is computed when it runs"
                )
                continue
            if not _TRAITS[trait](amount):
                what = f"a site file cannot state this value of {trait}"
                found.remarks.append(f"line {statement.lineno}: {what}")
                continue
            found.settings[trait] = amount
            statements.take(statement)
        elif owner in _OPTION_OWNERS and trait == "cluster_options":
            found.options_found = True
            try:
                _options(value, statements, found)
            except Unclear as reason:
                found.remarks.append(
                    f"line {statement.lineno}: the cluster options stay as they are: {reason}"
                )
                _partly(value, statements, found)
            else:
                statements.take(statement)
    return found


def _is_whole_cores(value: Any) -> bool:
    amount = kubernetes_cores(value)
    return not isinstance(value, str) and amount is not None and amount == int(amount)


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[!-~]{1,255}", value) is not None and "{" not in value


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 10**8


def _is_command(*names: str) -> Callable[[Any], bool]:
    """tidehub writes the commands itself: those that exist today (`dask scheduler`, `dask worker`)."""
    return lambda value: value in names or (isinstance(value, list) and " ".join(map(str, value)) in names)


_TRAITS: dict[str, Callable[[Any], bool]] = {
    "cluster_max_cores": lambda value: not isinstance(value, str) and kubernetes_cores(value) is not None,
    "cluster_max_memory": lambda value: trait_bytes(value) is not None,
    "cluster_max_workers": lambda value: type(value) is int and 0 < value <= 100_000,
    "idle_timeout": _is_time,
    "worker_cores": _is_whole_cores,
    "worker_memory": lambda value: trait_bytes(value) is not None,
    "scheduler_cores": _is_whole_cores,
    "scheduler_memory": lambda value: trait_bytes(value) is not None,
    "image": _is_image,
    "scheduler_cmd": _is_command("dask scheduler", "dask-scheduler"),
    "worker_cmd": _is_command("dask worker", "dask-worker"),
}


def _options(value: ast.expr, statements: Statements, found: Recovered) -> None:
    functions: dict[str, ast.FunctionDef] = {}
    if isinstance(value, ast.Name):
        name = value.id
        function = statements.function(name)
        if function is not None:
            value, functions = _returned_options(function)
        else:
            value = statements.assigned(name) or value
    if not isinstance(value, ast.Call) or name_of(value.func) != "Options":
        raise Unclear("they are not made by Options(...)")
    fields: dict[str, _Field] = {}
    for argument in value.args:
        made = _field(argument, statements.names)
        fields[made.name] = made
    traits: dict[str, Any] = {
        str(one.values.get("target") or one.name): Chosen(one.name) for one in fields.values()
    }
    tagged = False
    for keyword in value.keywords:
        if keyword.arg != "handler":
            raise Unclear(f"Options has {keyword.arg or '**'}=")
        targets = {str(one.values.get("target") or one.name): one.name for one in fields.values()}
        traits, tagged = _handled(keyword.value, functions, statements, targets)
    # Complete or not: what the fields say is the best there is to know.
    _ranges(fields, traits, tagged, found)


def _partly(value: ast.expr, statements: Statements, found: Recovered) -> None:
    """Ranges that are plain although the whole is not: they go into the site file, and the code stays."""
    functions: dict[str, ast.FunctionDef] = {}
    if isinstance(value, ast.Name):
        function = statements.function(value.id)
        body = function.body if function else []
        functions = {item.name: item for item in body if isinstance(item, ast.FunctionDef)}
        returned = [item.value for item in body if isinstance(item, ast.Return) and item.value is not None]
        value = returned[-1] if returned else (statements.assigned(value.id) or value)
    if not isinstance(value, ast.Call) or name_of(value.func) != "Options":
        return
    fields: dict[str, _Field] = {}
    for argument in value.args:
        try:
            one = _field(argument, statements.names)
        except Unclear:
            continue
        fields[one.name] = one
    targets = {str(one.values.get("target") or one.name): one.name for one in fields.values()}
    traits: dict[str, Any] = {target: Chosen(field) for target, field in targets.items()}
    tagged = False
    for keyword in value.keywords:
        name = name_of(keyword.value)
        handler = functions.get(name) or statements.function(name)
        if keyword.arg == "handler" and handler is not None:
            try:
                traits, tagged = Handler(handler.args, statements.names, targets, lenient=True).run(
                    handler.body
                )
            except Unclear:
                return
    for trait in ("worker_cores", "worker_memory", "image"):
        chosen = traits.get(trait)
        if isinstance(chosen, Chosen):
            with contextlib.suppress(Unclear):
                part = Recovered()
                _ranges({chosen.field: fields[chosen.field]}, {trait: chosen}, tagged, part)
                found.cores, found.memory = part.cores or found.cores, part.memory or found.memory
                if trait == "image":
                    found.image, found.image_choice = part.image, part.image_choice


def _returned_options(function: ast.FunctionDef) -> tuple[ast.expr, dict[str, ast.FunctionDef]]:
    """`def cluster_options(user): ... return Options(...)`, where nothing depends on the user."""
    inner: dict[str, ast.FunctionDef] = {}
    arguments = {argument.arg for argument in function.args.args}
    for item in function.body:
        match item:
            case ast.FunctionDef(name=name):
                inner[name] = item
            case ast.Expr(value=ast.Constant()):
                continue
            case ast.Return(value=ast.Call() as call):
                if any(arguments & names_loaded(part) for part in [call, *inner.values()]):
                    raise Unclear("they depend on the user")
                return call, inner
            case _:
                break
    raise Unclear(f"the function {function.name} does more than return Options(...)")


def _field(node: ast.expr, names: Mapping[str, Any]) -> _Field:
    kind = name_of(node.func) if isinstance(node, ast.Call) else ""
    if not isinstance(node, ast.Call) or kind not in _FIELDS:
        raise Unclear("a field is not one of Integer, Float, String, Select")
    try:
        given = [literal(argument, names) for argument in node.args]
        named = {str(keyword.arg): literal(keyword.value, names) for keyword in node.keywords}
    except NotLiteral:
        raise Unclear("the values of a field are computed when it runs") from None
    names_of = ("field", *_FIELDS[kind])
    if len(given) > len(names_of) or set(named) - set(names_of):
        raise Unclear(f"a field {kind} is not as dask-gateway knows it")
    values = {**dict(zip(names_of, given, strict=False)), **named}
    if not isinstance(values.get("field"), str):
        raise Unclear(f"a field {kind} has no name")
    return _Field(kind, values.pop("field"), values)


def _handled(
    handler: ast.expr, functions: dict[str, ast.FunctionDef], statements: Statements, targets: dict[str, str]
) -> tuple[dict[str, Any], bool]:
    """The traits that a handler returns, and whether it asks for a tag on the image."""
    if isinstance(handler, ast.Lambda):
        return Handler(handler.args, statements.names, targets).run([ast.Return(handler.body)])
    name = handler.id if isinstance(handler, ast.Name) else ""
    function = functions.get(name) or statements.function(name)
    if function is None:
        raise Unclear("its handler is not a function of this code")
    return Handler(function.args, statements.names, targets).run(function.body)


def _ranges(fields: dict[str, _Field], traits: dict[str, Any], tagged: bool, found: Recovered) -> None:
    made = Recovered(image_choice="fixed")
    used: set[str] = set()
    for trait, chosen in traits.items():
        base = trait.removesuffix("_limit")
        if base not in ("worker_cores", "worker_memory", "image"):
            raise Unclear(f"they set {trait}, for which a site file has no choice")
        if trait != base:
            if traits.get(base) != chosen:
                raise Unclear(f"{trait} differs from {base}")
            continue
        if not isinstance(chosen, Chosen):
            if trait == "image":
                raise Unclear("they set the image without a choice")
            amount = _amount(trait, chosen, Fraction(1))
            setattr(made, trait.removeprefix("worker_"), Range(amount, amount, amount))
            continue
        used.add(chosen.field)
        one = fields[chosen.field]
        if trait == "image":
            made.image = _image(one)
            made.image_choice = "tagged" if tagged else "any"
        else:
            setattr(made, trait.removeprefix("worker_"), _range(trait, one, chosen.factor, made))
    if set(fields) - used:
        raise Unclear(f"nothing is known of the field {sorted(set(fields) - used)[0]}")
    found.cores, found.memory = made.cores, made.memory
    found.image, found.image_choice = made.image, made.image_choice
    found.remarks += made.remarks


def _image(one: _Field) -> str | None:
    default = one.values.get("default", "")
    if one.kind != "String" or not isinstance(default, str):
        raise Unclear("the image is chosen from a list, which a site file cannot state")
    return default or None


def _range(trait: str, one: _Field, factor: Fraction, made: Recovered) -> Range:
    if one.kind == "Select":
        options = one.values.get("options")
        if not isinstance(options, list) or not options:
            raise Unclear(f"the choices of {one.name} cannot be read")
        labels = {str(item[0]): item[1] for item in options if isinstance(item, list) and len(item) == 2}
        amounts = [
            _amount(trait, item[1] if isinstance(item, list) and len(item) == 2 else item, factor)
            for item in options
        ]
        given = one.values.get("default")
        default = amounts[0] if given is None else _amount(trait, labels.get(str(given), given), factor)
        if len(set(amounts)) > 2:
            made.remarks.append(f"{one.name}: the list of choices becomes a range")
        return Range(min(amounts), max(amounts), default)
    if one.kind not in ("Integer", "Float"):
        raise Unclear(f"{one.name} is a {one.kind}, which has no range")
    low, high = one.values.get("min"), one.values.get("max")
    if high is None:
        raise Unclear(f"{one.name} has no max")
    default = one.values.get("default", 0)
    return Range(
        _amount(trait, default if low is None else low, factor),
        _amount(trait, high, factor),
        _amount(trait, default, factor),
    )


def _amount(trait: str, value: Any, factor: Fraction) -> int:
    """Whole cores or bytes."""
    if isinstance(value, str) and trait.endswith("memory"):
        amount = trait_bytes(value)
        if amount is not None and factor == 1:
            return amount
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**63:
        exact = Fraction(value) * factor
        if exact.denominator != 1 and trait.endswith("memory"):
            exact = Fraction(int(exact))
        if exact.denominator == 1 and 0 < exact < 2**63:
            return int(exact)
    unit = "bytes" if trait.endswith("memory") else "cores"
    raise Unclear(f"{value!r} is not a whole number of {unit}"[:120])
