"""When notebook servers are stopped by themselves, and that it changes. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tidehub.kubernetes.planning.facts import Facts, HubValues
from tidehub.kubernetes.planning.model import Finding
from tidehub.kubernetes.values.notebook_files import KEY
from tidehub.site.end_words import rules


def findings(facts: Facts) -> Iterator[Finding]:
    """One where another rule counts than before the deployment."""
    before, after = facts.hub_before, facts.hub_after
    if before is None or after is None:
        return
    old, new = _rule(before), _rule(after)
    if old != new:
        yield Finding(
            "servers", "notice", f"Notebook servers are stopped by another rule: {new}",
            f"Until now: {old} Servers that run stay with the files that they have until they start again.",
        )  # fmt: skip


def _rule(values: HubValues) -> str:
    """The rule in words, as the values of the chart have it."""
    if not values.at("cull", "enabled"):
        return "They go on for ever."
    timeout, age = (_seconds(values.at("cull", name)) for name in ("timeout", "maxAge"))
    files = values.at("singleuser", "extraFiles") or {}
    # The chart has one switch for both: who is stopped for their age alone has a longer timeout than that.
    told = rules(0 if age and timeout >= age else timeout, age)
    if f"{KEY}busy_kernels.py" not in files:
        told.append("A cell that prints nothing does not keep its server.")
    return " ".join(told)


def _seconds(value: object) -> float:
    return value if isinstance(value, (int, float)) else 0
