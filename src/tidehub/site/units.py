"""Quantities as they are written in a site file: sizes, durations, cores. Exact, and never without a unit.

The same letters mean different things to the programs below us (`10G` is 10 * 2**30 bytes to JupyterHub and
dask-gateway, 10 * 10**9 to Kubernetes and dask), so a bare letter is refused here and bytes are handed on.
"""

from __future__ import annotations

import re
from fractions import Fraction

BINARY = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
DECIMAL = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
_SIZES = {
    "B": 1,
    **BINARY,
    **DECIMAL,
    "KB": 10**3,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
}

SECOND, MINUTE, HOUR, DAY = 1, 60, 3600, 86400
_TIMES = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), SECOND),
    **dict.fromkeys(("min", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("h", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
}

SIZE_UNITS, TIME_UNITS = tuple(_SIZES), tuple(_TIMES)
LARGEST_SIZE = 2**63 - 1
"""Bytes. What a signed 64-bit counter, and so every kernel limit below us, can hold."""
LONGEST_TIME = 3650 * DAY
"""Seconds. Beyond ten years a timeout is a typing mistake."""
MOST_CORES = 4096

_PIECE = re.compile(r"(?P<number>[0-9]{1,20}(?:\.[0-9]{1,12})?)[ \t]*(?P<unit>[A-Za-z]*)", re.ASCII)
_BOTH = re.compile(
    r"(?P<size>[0-9.]+[ \t]*[A-Za-z]+)[ \t]*\((?P<bytes>[0-9][0-9, _]*)[ \t]*(?:B|bytes?)?[ \t]*\)", re.ASCII
)
_LENGTH = 60


class QuantityError(ValueError):
    """A quantity that cannot be used. `what` is wrong, `expected` was wanted, `fix` is what to write."""

    def __init__(self, what: str, *, expected: str, fix: str | None = None) -> None:
        self.what = what
        self.expected = expected
        self.fix = fix
        super().__init__(f"{what}; expected {expected}" + (f"; {fix}" if fix else ""))


_A_SIZE = "a size with a unit, such as 5 GiB, 10 GB or 500 MiB"
_A_TIME = "a duration with a unit, such as 20 min, 1 h, 90 s or 2 d"
_CORES = "a number of cores, such as 2 or 0.5"


def parse_size(text: str) -> int:
    """Bytes of a size such as `5 GiB`, `10 GB`, `500 MiB`, `1.5 GiB` or Kubernetes' `4Gi`.

    Raises `QuantityError` when the unit is missing or ambiguous, or the bytes are not a whole number.
    """
    if len(text) <= _LENGTH and (both := _BOTH.fullmatch(text.strip())):
        raise _said_twice(text, parse_size(both["size"]), int(re.sub(r"\D", "", both["bytes"])))
    number, unit = _split(text, _A_SIZE)
    if not unit:
        raise QuantityError(
            f"{text!r} has no unit", expected=_A_SIZE, fix=f"write {number} GiB or {number} MiB"
        )
    factor = _SIZES.get(unit)
    if factor is None:
        raise QuantityError(f"{text!r}: {_unknown_size_unit(unit)}", expected=_A_SIZE)
    exact = Fraction(number) * factor
    if exact.denominator != 1:
        near = format_size(int(exact)) if factor < 2**20 else format_size(int(exact) // 2**20 * 2**20)
        raise QuantityError(f"{text!r} is not a whole number of bytes", expected=_A_SIZE, fix=f"write {near}")
    if exact > LARGEST_SIZE:
        raise QuantityError(f"{text!r} is larger than any machine can count", expected=_A_SIZE)
    return int(exact)


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `20 min`, `1 h`, `90 s`, `2 d` or `1 h 30 min`.

    Raises `QuantityError` when a unit is missing, ambiguous or out of order.
    """
    rest, total, previous = text.strip(), Fraction(0), float("inf")
    if not rest or len(text) > _LENGTH:
        raise QuantityError(f"{text[:_LENGTH]!r} is not a duration", expected=_A_TIME)
    while rest:
        piece = _PIECE.match(rest)
        if piece is None:
            raise QuantityError(f"{text!r} is not a duration", expected=_A_TIME)
        number, unit = piece["number"], piece["unit"]
        if not unit:
            raise QuantityError(
                f"{text!r} has no unit", expected=_A_TIME, fix=f"write {number} min or {number} s"
            )
        factor = _TIMES.get(unit)
        if factor is None:
            raise QuantityError(f"{text!r}: {_unknown_time_unit(unit)}", expected=_A_TIME)
        if factor >= previous:
            raise QuantityError(f"{text!r}: larger units come first, each once", expected=_A_TIME)
        total, previous = total + Fraction(number) * factor, factor
        rest = rest[piece.end() :].lstrip()
    if total > LONGEST_TIME:
        raise QuantityError(f"{text!r} is longer than ten years", expected=_A_TIME)
    return float(total)


def parse_cores(text: str | int | float) -> float:
    """Cores of `2`, `0.5` or Kubernetes' `500m` (thousandths). Raises `QuantityError`."""
    if isinstance(text, bool):
        raise QuantityError(f"{str(text).lower()} is not a number of cores", expected=_CORES)
    if isinstance(text, (int, float)):
        cores = float(text) if abs(text) <= 10 * MOST_CORES else float("inf")
    else:
        number, unit = _split(text, _CORES)
        if unit not in ("", "m"):
            raise QuantityError(f"{text!r}: {unit!r} is not a unit of cores", expected=_CORES)
        cores = float(Fraction(number) / (1000 if unit else 1))
    if 0 <= cores <= MOST_CORES and (Fraction(str(cores)) * 1000).denominator != 1:
        raise QuantityError(
            f"{text} is finer than a thousandth of a core",
            expected=_CORES,
            fix=f"write {max(round(cores, 3), 0.001):g}",
        )
    if not 0 <= cores <= MOST_CORES:
        raise QuantityError(
            f"{text} is not a possible number of cores", expected=f"{_CORES}, at most {MOST_CORES}"
        )
    return cores


def format_size(size: int) -> str:
    """The shortest exact way to write `size` bytes: `24 GiB`, `1.5 GiB`, `10 GB`, `1234567 B`."""
    best = f"{size} B"
    for units in (BINARY, DECIMAL):
        for unit, factor in units.items():
            thousandths, remainder = divmod(size * 1000, factor)
            if size >= factor and not remainder:
                text = f"{_decimal(thousandths)} {unit}"
                if len(text) <= len(best) and (units is BINARY or len(text) < len(best) - 1):
                    best = text
    return best


def about_size(size: int) -> str:
    """`size` bytes as text, rounded to one decimal: a measured amount such as `23.4 GiB`."""
    for unit, factor in reversed(BINARY.items()):
        if size >= factor:
            return f"{size / factor:.1f} {unit}".replace(".0 ", " ")
    return f"{size} B"


def format_duration(seconds: float) -> str:
    """Seconds as text, and exact: `20 min`, `1 h 30 min`, `2 d`, `0.5 s`."""
    whole, part = divmod(round(seconds * 10**6), 10**6)
    pieces = []
    for unit, factor in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        count, whole = divmod(whole, factor)
        if count:
            pieces.append(f"{count} {unit}")
    if whole or part or not pieces:
        fraction = f".{part:06d}".rstrip("0") if part else ""
        pieces.append(f"{whole}{fraction} s")
    return " ".join(pieces)


def format_cores(cores: float) -> str:
    """`1 core`, `2 cores`, `0.5 cores`."""
    return f"{cores:g} core" if cores == 1 else f"{cores:g} cores"


def _split(text: str, expected: str) -> tuple[str, str]:
    shown = text[:_LENGTH]
    piece = _PIECE.fullmatch(text.strip()) if len(text) <= _LENGTH else None
    if piece is None:
        if text.strip().startswith("-"):
            raise QuantityError(f"{shown!r} is negative", expected=expected)
        if re.fullmatch(r"[0-9]+,[0-9]+.*", text.strip()):
            raise QuantityError(
                f"{shown!r} has a comma", expected=expected, fix="write decimals with a point"
            )
        raise QuantityError(f"{shown!r} cannot be read", expected=expected)
    return piece["number"], piece["unit"]


def _said_twice(text: str, size: int, in_bytes: int) -> QuantityError:
    """A size with its bytes beside it: a habit of tables, and a contradiction when one of them was changed alone."""
    if size == in_bytes:
        return QuantityError(
            f"{text!r} says the size twice", expected=_A_SIZE, fix=f"write {format_size(size)}"
        )
    return QuantityError(
        f"{text!r} says two sizes: {format_size(size)} are {size:,} bytes, and {in_bytes:,} bytes are "
        f"{format_size(in_bytes)}",
        expected=_A_SIZE,
        fix=f"write {format_size(size)} or {format_size(in_bytes)}, whichever is meant",
    )


def _unknown_size_unit(unit: str) -> str:
    if unit.upper() in ("K", "M", "G", "T", "P") and unit != "B":
        letter = unit.upper()
        return (
            f"{unit!r} alone is ambiguous (a power of 1024 to JupyterHub, of 1000 to Kubernetes): "
            f"write {letter}iB or {letter.replace('K', 'k')}B"
        )
    close = [known for known in _SIZES if known.lower() == unit.lower()]
    return f"{unit!r} is not a unit of size" + (f", did you mean {close[0]}?" if close else "")


def _unknown_time_unit(unit: str) -> str:
    if unit in ("m", "M"):
        return f"{unit!r} alone is ambiguous: write min for minutes"
    close = [known for known in _TIMES if known == unit.lower()]
    return f"{unit!r} is not a unit of time" + (f", did you mean {close[0]}?" if close else "")


def _decimal(thousandths: int) -> str:
    whole, part = divmod(thousandths, 1000)
    return f"{whole}.{part:03d}".rstrip("0") if part else str(whole)
