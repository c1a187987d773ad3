"""The login's text: complete, readable, the same at every run, and without anything secret."""

from __future__ import annotations

import ast
import sys

import pytest

from tidehub.errors import TidehubError
from tidehub.login import carried, hub_text
from tidehub.site.model import Site
from tidehub.site.reading.load import builtin_site

IN_THE_IMAGE = {"jupyterhub", "oauthenticator", "tornado", "traitlets", "jwt", "sqlalchemy"}
SITE = Site.model_validate(
    {
        "site": {"name": 'Coast "n" Sea', "url": "https://hub.example.org/x/"},
        "login": {
            "provider": "egi-check-in",
            "instance": "demo",
            "client_id": "the-client",
            "allow": {"groups": ["urn:mace:egi.eu:group:vo.example.eu:role=member"]},
            "block": ["b", "a"],
        },
        "notebooks": {"profiles": [{"name": "A", "default": True}]},
    }
)


def imported(name: str) -> set[str]:
    tree = ast.parse(carried.source(f"login.{name}"))
    found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {
        f"tidehub.login.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "tidehub.login"
        for alias in node.names
    }
    return found - {"tidehub.login"}


@pytest.mark.parametrize("name", hub_text.MODULES)
def test_a_module_that_travels_imports_only_what_is_there(name: str) -> None:
    before = {f"tidehub.login.{other}" for other in hub_text.MODULES[: hub_text.MODULES.index(name)]}
    for module in imported(name):
        root = module.partition(".")[0]
        assert module in before if root == "tidehub" else root in IN_THE_IMAGE | sys.stdlib_module_names, (
            module
        )


def test_the_text_is_python_readable_and_the_same_every_time() -> None:
    text = hub_text.authenticator_text(SITE)
    ast.parse(text)
    assert text == hub_text.authenticator_text(SITE)
    assert "\nclass SiteAuthenticator(GenericOAuthenticator)" in text  # not one long escaped line
    assert "c.SiteAuthenticator.issuer = 'https://aai-demo.egi.eu/auth/realms/egi'" in text
    assert "c.SiteAuthenticator.oauth_callback_url = 'https://hub.example.org/x/hub/oauth_callback'" in text
    assert "c.SiteAuthenticator.blocked_subjects = ['a', 'b']" in text
    assert "c.SiteAuthenticator.client_secret" not in text


def test_without_addresses_it_says_what_is_missing() -> None:
    with pytest.raises(TidehubError, match="identity provider's addresses"):
        hub_text.authenticator_text(builtin_site())
