"""The one type that carries a secret value."""

from __future__ import annotations

import hmac

REDACTED = "[secret]"


class Secret:
    """A text that does not print. `reveal()` gives it, for a child's environment or a 0600 file."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(REDACTED, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __deepcopy__(self, memo: object) -> Secret:
        return self  # it never changes

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled")
