"""What no schema sees."""

from __future__ import annotations
from tidehub.site.model import Site
from tidehub.site.problems import Problem


def check(site: Site) -> list[Problem]:
    return []
