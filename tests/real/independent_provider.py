"""The independent identity provider (npm oidc-provider) as a process, and its own pages as a user uses them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from child import with_us
from identity_process import free_port
from joserfc.jwk import ECKey, RSAKey

from tidehub.checks.browser import Browser, Page, trust
from tidehub.local.software import Software, layout

PACKAGE = Path(__file__).resolve().parents[1] / "independent-provider"
CLIENT, SECRET = "tidehub-hub", "secret-of-the-independent-client"
MEMBER = "urn:mace:egi.eu:group:vo.pangeo.eu:role=member#aai.egi.eu"


def installed(package: Path = PACKAGE) -> tuple[Path, Path]:
    """Node and the installed package of the tests; made by `npm ci` from its lock file at the first use."""
    software = Software()
    node = software.node()
    lock = (package / "package-lock.json").read_bytes()
    directory = software.root / "tests" / f"{package.name}-{layout.digest(lock)}"
    if not (directory / "complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(package / name, directory)
        npm = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        done = subprocess.run(
            [node, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=directory,
            env={
                **os.environ,
                "PATH": f"{node.parent}:{os.environ['PATH']}",
                "npm_config_cache": str(software.root / "cache" / "npm"),
            },
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            pytest.skip(f"{package.name} cannot be installed here: {done.stderr.strip()[-200:]}")
        (directory / "complete").touch()
    return node, directory


def user(name: str, *entitlements: str, scope: str = "both", **more: Any) -> dict[str, Any]:
    """Reservations of an account. `scope` says by which of the two reservations the memberships are released."""
    reservations: dict[str, Any] = {
        "preferred_username": name,
        "name": name.title(),
        "email": f"{name}@example.org",
    }
    for reservation in ("entitlements", "eduperson_entitlement"):
        if entitlements and scope in ("both", reservation):
            reservations[reservation] = list(entitlements)
    return reservations | more


@dataclass(frozen=True)
class Public:
    """Where a provider is that others know by an address of its own: by TLS, with the paths of a Keycloak."""

    issuer: str
    address: str
    """The IP address that it listens on, at port 443."""
    certificate: str
    """Chain, as PEM."""
    key: str = field(repr=False)
    trusted: Path
    """The authorities that whoever asks it trusts."""


@dataclass
class IndependentProvider:
    """One process. `accounts` maps subjects to reservations; write them with `tell`, they count at once."""

    directory: Path
    redirect_uris: list[str]
    signed_out_uris: list[str] = field(default_factory=list)
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    access_token_seconds: int = 3600
    port: int = field(default_factory=free_port)
    keys: list[Any] = field(
        default_factory=lambda: [RSAKey.generate_key(2048, {"kid": "first", "use": "sig"})]
    )
    algorithm: str = "RS256"
    process: subprocess.Popen[bytes] | None = None
    client: str = CLIENT
    public: Public | None = None
    """None: on a loopback port, without TLS."""

    @property
    def issuer(self) -> str:
        if self.public is not None:
            return self.public.issuer
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.directory / "provider.log").read_text(errors="replace")

    def tell(self) -> Path:
        """Write what the provider is to be; only the accounts are read while it runs."""
        path = self.directory / "provider.json"
        client = {
            "client_id": self.client,
            "client_secret": SECRET,
            "redirect_uris": self.redirect_uris,
            "post_logout_redirect_uris": self.signed_out_uris,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "id_token_signed_response_alg": self.algorithm,
        }
        content = {
            "issuer": self.issuer,
            "port": self.port,
            "clients": [client],
            "jwks": {"keys": [key.as_dict(private=True) for key in self.keys]},
            "accounts": self.accounts,
            "accessTokenSeconds": self.access_token_seconds,
        }
        if self.public is not None:
            content |= {
                "port": 443,
                "address": self.public.address,
                "keycloak": True,
                "tls": {"certificate": self.public.certificate, "key": self.public.key},
            }
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(content))
        fresh.replace(path)
        return path

    def start(self) -> None:
        node, package = installed()
        config = self.tell()
        # Node looks for packages beside the program.
        program = package / "provider.mjs"
        shutil.copy(PACKAGE / "provider.mjs", program)
        with (self.directory / "provider.log").open("ab") as log:
            self.process = subprocess.Popen(
                with_us([node, program, config]),
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "NODE_ENV": "test"},
            )
        deadline = time.monotonic() + 60
        verify = trust(self.public.trusted) if self.public is not None else True
        while True:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            try:
                known = httpx.get(f"{self.issuer}/.well-known/openid-configuration", verify=verify)
                if known.status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)

    def rotate(self) -> None:
        """Start anew with another key, of another kind; sessions and grants are gone."""
        self.stop()
        self.keys = [ECKey.generate_key("P-256", {"kid": "second", "use": "sig"}, private=True)]
        self.algorithm = "ES256"
        self.start()


async def sign_in(browser: Browser, sub: str, start: str = "hub/oauth_login") -> Page:
    """Through the provider's own sign-in and consent pages, to wherever the hub sends the user."""
    page = await browser.open(start)
    for _ in range(4):
        form = next((form for form in page.contents.forms if "/interaction/" in form.action), None)
        if form is None:
            return page
        values = {"login": sub, "password": "any"} if form.of_kind("password") else {}
        page = await browser.submit(page, form, values)
    raise AssertionError(f"the provider goes on asking: {page.words}")
