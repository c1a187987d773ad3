"""What every section of a site has in common: frozen, and no unknown key."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

from tidehub.site.units import QuantityError


class Section(BaseModel):
    """A section of the site file. Every key has a description: `explain` and the reference page read it."""

    # Built when first used: the whole site in one go, not each section on the way to it.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise QuantityError(
            "it holds a line break or an invisible character", expected="one line of readable text"
        )
    return text


Line = Annotated[
    str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True), AfterValidator(_printable)
]
"""One line of text, 1 to 255 characters."""
Lines = tuple[Line, ...]
KubernetesName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
"""A name as Kubernetes allows it: lower-case letters, digits, `-` and `.`."""


def as_bool(value: Any) -> Any:
    """Only true and false: `yes`, `on` and 1 mean different things in different YAMLs."""
    if not isinstance(value, bool):
        shown = (
            "nothing"
            if value is None
            else repr(value)
            if isinstance(value, (str, int, float))
            else "a list or mapping"
        )
        raise QuantityError(f"{shown} is not a yes or no", expected="true or false")
    return value


Flag = Annotated[bool, BeforeValidator(as_bool)]


def _url(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    expected = "an address such as https://hub.example.org or https://hub.example.org/jupyterhub/"
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as error:
        raise QuantityError(f"{text!r} is not an address ({error})", expected=expected) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        raise QuantityError(f"{text!r} is not a web address", expected=expected)
    if parts.username or parts.password:
        raise QuantityError("the address carries a user name or password", expected=expected)
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise QuantityError(f"{text!r} has a query or a fragment", expected=expected)
    if not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", parts.netloc):
        raise QuantityError(f"{text!r} has a host that is not plain ASCII", expected=expected)
    return text


Url = Annotated[str, BeforeValidator(_url), StringConstraints(max_length=2000)]
