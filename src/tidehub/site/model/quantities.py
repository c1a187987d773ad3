"""Quantities as types of the model: text with a unit from a file, plain numbers from code.

`Size` is `int` bytes, `Seconds` and `Timeout` are `float` seconds, `CoreCount` is `float` cores. A site file
is validated with the context `WRITTEN`, which refuses bare numbers where a unit is due; code may pass them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

from tidehub.site.units import QuantityError, parse_cores, parse_duration, parse_size

WRITTEN = {"written": True}
"""Validation context: the data come from a file that was written by hand, so quantities carry units."""


def _size(value: Any, info: ValidationInfo) -> int:
    if isinstance(value, str):
        return parse_size(value)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or (isinstance(value, float) and not info.context)
    ):
        raise QuantityError(
            f"{_shown(value)} is not a size", expected="a size with a unit, such as 5 GiB or 500 MiB"
        )
    if info.context:
        raise QuantityError(
            f"{value} has no unit",
            expected="a size with a unit, such as 5 GiB or 500 MiB",
            fix=f"write {value} GiB or {value} MiB" if value < 10**6 else f"write {value} B",
        )
    return int(value)


def _seconds(value: Any, info: ValidationInfo) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise QuantityError(
            f"{_shown(value)} is not a duration", expected="a duration, such as 20 min or 1 h"
        )
    if info.context:
        raise QuantityError(
            f"{value} has no unit",
            expected="a duration with a unit, such as 20 min or 1 h",
            fix=f"write {value} min or {value} s",
        )
    return float(value)


def _timeout(value: Any, info: ValidationInfo) -> float:
    if value == "never":
        return 0.0
    seconds = _seconds(value, info)
    if info.context and seconds == 0:
        raise QuantityError(
            "no time at all", expected="a duration such as 20 min, or never", fix="write never"
        )
    return seconds


def _cores(value: Any) -> float:
    if not isinstance(value, (str, int, float)):
        raise QuantityError(
            f"{_shown(value)} is not a number of cores", expected="a number, such as 2 or 0.5"
        )
    return parse_cores(value)


def _whole_cores(value: Any) -> float:
    cores = _cores(value)
    if cores != int(cores) or cores < 1:
        raise QuantityError(
            f"{value} is not a whole number of cores",
            expected="1 or more whole cores: a Dask process runs one thread a core",
        )
    return cores


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "nothing" if value is None else repr(value) if not isinstance(value, bool) else str(value).lower()


def _schema(*examples: str | float) -> WithJsonSchema:
    kind = "string" if isinstance(examples[0], str) else "number"
    return WithJsonSchema({"type": kind, "examples": list(examples)})


Size = Annotated[int, BeforeValidator(_size), Field(gt=0), _schema("5 GiB", "500 MiB")]
AnySize = Annotated[int, BeforeValidator(_size), Field(ge=0), _schema("1 GiB", "0 B")]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0), _schema("20 min", "1 h")]
Timeout = Annotated[float, BeforeValidator(_timeout), Field(ge=0), _schema("20 min", "never")]
CoreCount = Annotated[float, BeforeValidator(_cores), Field(gt=0), _schema(2, 0.5)]
WholeCores = Annotated[float, BeforeValidator(_whole_cores), _schema(1, 2)]
