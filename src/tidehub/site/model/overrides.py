"""What a site adds to the generated configuration in its own words: the way out where no key exists.

Checked as far as that goes: Helm values against the root keys of their chart, Python for its syntax.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from tidehub.site.model.section import Section
from tidehub.site.problems import KeyPath, Problem
from tidehub.site.units import QuantityError

Chart = Literal["jupyterhub", "dask-gateway", "daskhub"]
CHARTS: tuple[Chart, ...] = ("jupyterhub", "dask-gateway", "daskhub")

ROOT_KEYS: dict[Chart, frozenset[str]] = {
    # values.schema.json of the charts: jupyterhub 1.2.0 to 4.4.0, dask-gateway 2022.6.1 to 2026.3.0. Both refuse
    # every other key. daskhub has no schema; these are its dependencies (Chart.yaml) and what it passes on.
    "jupyterhub": frozenset(
        [
            "cull",
            "custom",
            "debug",
            "enabled",
            "fullnameOverride",
            "global",
            "httpRoute",
            "hub",
            "imagePullSecret",
            "imagePullSecrets",
            "ingress",
            "nameOverride",
            "prePuller",
            "proxy",
            "rbac",
            "scheduling",
            "singleuser",
        ]
    ),
    "dask-gateway": frozenset(
        ["controller", "enabled", "fullnameOverride", "gateway", "global", "nameOverride", "rbac", "traefik"]
    ),
    "daskhub": frozenset(["dask-gateway", "dask-kubernetes", "global", "jupyterhub", "rbac"]),
}

LONGEST_CODE = 200_000
"""Characters."""


def _values(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise QuantityError(
            "these are not Helm values", expected="a mapping, as in the chart's own values file"
        )
    return value


def _python(value: Any) -> Any:
    if not isinstance(value, str):
        raise QuantityError("this is not Python code", expected="text, best after `|` on lines of its own")
    if len(value) > LONGEST_CODE:
        raise QuantityError(
            f"more than {LONGEST_CODE} characters of Python", expected="a few lines of configuration"
        )
    fault = python_fault(value)
    if fault is not None:
        raise QuantityError(f"the Python code is wrong: {fault}", expected="code that compiles")
    return value


def python_fault(code: str) -> str | None:
    """What keeps a text from being Python, with its own line; None when it compiles. Nothing is executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(code, "overrides", "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"{error.msg}, line {error.lineno} of it"
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return "it cannot be read"
    return None


HelmValues = Annotated[
    dict[str, Any], BeforeValidator(_values), WithJsonSchema({"type": "object", "additionalProperties": True})
]
PythonCode = Annotated[str, BeforeValidator(_python), WithJsonSchema({"type": "string"})]


class HelmOverrides(Section):
    """Values of the charts, laid over the generated ones as Helm does: mappings merge, lists replace."""

    jupyterhub: HelmValues = Field(
        default_factory=dict,
        description="Values of the jupyterhub chart, whether it stands alone or inside daskhub.",
    )
    dask_gateway: HelmValues = Field(
        default_factory=dict,
        alias="dask-gateway",
        description="Values of the dask-gateway chart, whether it stands alone or inside daskhub.",
    )
    daskhub: HelmValues = Field(
        default_factory=dict, description="Values at the root of the daskhub meta-chart."
    )

    def of(self, chart: Chart) -> dict[str, Any]:
        """The values for a chart."""
        return {
            "jupyterhub": self.jupyterhub,
            "dask-gateway": self.dask_gateway,
            "daskhub": self.daskhub,
        }[chart]


class Overrides(Section):
    """What this site adds in its own words. It counts last, and only you know what it does."""

    helm: HelmOverrides = Field(
        default=HelmOverrides(), description="Helm values for Kubernetes, one mapping a chart."
    )
    hub_config: PythonCode | None = Field(
        default=None,
        description="Python that the hub executes after its own configuration; `c` is the configuration.",
    )
    gateway_config: PythonCode | None = Field(
        default=None,
        description="Python that dask-gateway executes after its own configuration; `c` is the configuration.",
    )


def replaces_login(site: Any) -> str | None:
    """The authenticator that the site's own Helm values put in the place of its login; None without one.

    `site` is a `model.Site`. GenericOAuthenticator is what the login becomes anyway, under whatever name.
    """
    inner: Any = site.overrides.helm.jupyterhub if site.overrides is not None else None
    for part in ("hub", "config", "JupyterHub", "authenticator_class"):
        inner = inner.get(part) if isinstance(inner, dict) else None
    if not isinstance(inner, str) or re.search(r"(?i)generic-?oauth", inner):
        return None
    return inner


def used(overrides: Overrides) -> list[tuple[KeyPath, str]]:
    """Each override in use: its key and one line about it, for `validate` and `plan`."""
    found: list[tuple[KeyPath, str]] = []
    for chart in CHARTS:
        for key, value in overrides.helm.of(chart).items():
            what = f"laid over the generated values of the chart {chart}; one machine does not use this"
            found.append((("overrides", "helm", chart, key), f"{_amount(value)} {what}"))
    for name, program in (("hub_config", "the hub"), ("gateway_config", "dask-gateway")):
        code = getattr(overrides, name)
        if code is not None:
            lines = sum(1 for line in code.splitlines() if line.strip())
            count = "1 line" if lines == 1 else f"{lines} lines"
            found.append(
                (("overrides", name), f"{count} of Python run at the end of {program}'s configuration")
            )
    return found


def check_overrides(overrides: Overrides, model: str | None) -> Iterator[Problem]:
    """Keys that their chart does not have, and charts that the site does not install."""
    for chart in CHARTS:
        values = overrides.helm.of(chart)
        for key in values:
            if key not in ROOT_KEYS[chart]:
                yield _unknown_key(chart, key)
            elif chart == "daskhub" and key in ("jupyterhub", "dask-gateway"):
                yield Problem(
                    f"values of the chart {key} stand elsewhere",
                    ("overrides", "helm", chart, key),
                    expected=f"overrides.helm.{key}",
                    fix=f"move them to overrides.helm.{key}: they count there whatever kubernetes.model is",
                )
    if overrides.helm.daskhub and model == "split":
        what = "the meta-chart daskhub is not installed by the model split"
        yield Problem(what, ("overrides", "helm", "daskhub"), fix="remove it, or change kubernetes.model")


def _unknown_key(chart: Chart, key: str) -> Problem:
    close = difflib.get_close_matches(key, sorted(ROOT_KEYS[chart]), n=1, cutoff=0.6)
    others = [other for other in CHARTS if other != chart and key in ROOT_KEYS[other]]
    fix = f"did you mean {close[0]}?" if close else None
    if others:
        fix = f"it is a key of the chart {others[0]}"
    refuses = "Helm ignores it there" if chart == "daskhub" else "Helm refuses such values"
    return Problem(
        f"the chart {chart} has no key {key} at its root, as far as this tidehub knows; {refuses}",
        ("overrides", "helm", chart, key),
        expected=", ".join(sorted(ROOT_KEYS[chart])),
        fix=fix,
        severity="warning",
    )


def _amount(value: Any) -> str:
    def leaves(inner: Any) -> int:
        if isinstance(inner, dict):
            return sum(leaves(item) for item in inner.values()) or 1
        return sum(leaves(item) for item in inner) or 1 if isinstance(inner, list) else 1

    count = leaves(value)
    return "1 value" if count == 1 else f"{count} values"
