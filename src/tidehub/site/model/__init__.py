"""The site: one frozen, typed statement of what a community wants, a module for each section.

Sizes are `int` bytes, times `float` seconds, cores `float`. Attribute names are those of the file, except
`class`, which is `class_name` here.
"""

from __future__ import annotations

from tidehub.site.model.dask import Choice, Cluster, Dask, Image, PerUser, Scheduler, Worker
from tidehub.site.model.deployment import Cloud, Dns, Exposure, Infrastructure, Kubernetes
from tidehub.site.model.group_rules import GroupRule, ProfileAllow
from tidehub.site.model.login import EGI_HOSTS, Admins, Allow, Endpoints, Login
from tidehub.site.model.machine import Machine, Tls
from tidehub.site.model.notebooks import Bytes, Cores, Home, Notebooks, Profile, slug_of
from tidehub.site.model.overrides import Overrides
from tidehub.site.model.site import Database, Hub, Site, SiteSection

__all__ = [
    "EGI_HOSTS",
    "Admins",
    "Allow",
    "Bytes",
    "Choice",
    "Cloud",
    "Cluster",
    "Cores",
    "Dask",
    "Database",
    "Dns",
    "Endpoints",
    "Exposure",
    "GroupRule",
    "Home",
    "Hub",
    "Image",
    "Infrastructure",
    "Kubernetes",
    "Login",
    "Machine",
    "Notebooks",
    "Overrides",
    "PerUser",
    "Profile",
    "ProfileAllow",
    "Scheduler",
    "Site",
    "SiteSection",
    "Tls",
    "Worker",
    "slug_of",
]
