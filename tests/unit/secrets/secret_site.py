"""A site with every kind of need, and values that look real."""

from __future__ import annotations

from pathlib import Path

from tidehub.secrets.declared import Declared
from tidehub.secrets.site_secrets import needed
from tidehub.site.model import Site
from tidehub.site.reading.load import load_site

HEX = "8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92"
OTHER = "1f0e3dad99908345f7439f8ffabdffc4a8b2c6d9e5f7013bd2c4e6a8091b3d5f"
CLIENT = "Zq7-private-Xw93-client"

SITE = """\
site: {name: Coast, url: "https://hub.example.org"}
login: {provider: egi-check-in, client_id: coast-hub, allow: {everyone: true}}
notebooks: {profiles: [{name: Standard, default: true}]}
"""
ON_KUBERNETES = SITE + "kubernetes: {}\n"


def site_file(directory: Path, text: str = ON_KUBERNETES) -> Path:
    path = directory / "tidehub.yaml"
    path.write_text(text)
    return path


def wanted(path: Path) -> tuple[Declared, ...]:
    return needed(load_site(path))


def site_of(path: Path) -> Site:
    return load_site(path)


def secrets_file(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "tidehub.secrets.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path
