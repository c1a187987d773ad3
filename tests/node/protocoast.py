"""The ProtoCoast site of the examples on a node: its file, its identity provider, its users."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from independent_provider import SECRET, IndependentProvider, Public, sign_in
from node_components import PROVIDER_ADDRESS
from node_machine import Node
from node_storage import CLASS

from tidehub.checks import server
from tidehub.checks.browser import Browser
from tidehub.checks.journey import Journey
from tidehub.checks.kernel import Kernel, Output
from tidehub.checks.login import who
from tidehub.checks.promises import promise
from tidehub.checks.target import Target
from tidehub.site.reading.load import load_site

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "protocoast" / "tidehub.yaml"
HOST = "protocoast.vm.fedcloud.eu"
PROVIDER = "aai-demo.egi.eu"
ISSUER = f"https://{PROVIDER}/auth/realms/egi"
NAMESPACE = "daskhub"
_ISSUED = "issuer: letsencrypt-prod"
_SECRET_NAME = "protocoast-tls"


class ProtoCoast:
    """The site in a folder of its own, deployed by the command line as an operator does."""

    def __init__(self, node: Node, folder: Path, charts: Path) -> None:
        self.node = node
        self.folder = folder
        self.charts = charts
        pair = node.authority.issue(HOST, hosts=(HOST, PROVIDER))
        chain = (pair.certificate + node.authority.certificate).decode()
        self._tls = {"tls.crt": chain, "tls.key": pair.key.decode()}
        public = Public(ISSUER, PROVIDER_ADDRESS, chain, pair.key.decode(), node.trusted)
        self.provider = IndependentProvider(
            folder,
            [f"https://{HOST}/hub/oauth_callback"],
            [f"https://{HOST}/hub/login"],
            client="protocoast-hub",
            public=public,
        )

    @property
    def file(self) -> Path:
        """The site file."""
        return self.folder / "tidehub.yaml"

    def write(self) -> None:
        """The example as it stands, but for the certificate: no authority on the internet can reach this site."""
        text = EXAMPLE.read_text()
        assert _ISSUED in text and CLASS in text
        self.file.write_text(text.replace(_ISSUED, f"tls_secret: {_SECRET_NAME}"))
        made = self.tidehub("secrets", "create")
        assert made.returncode == 0, made.stderr
        secrets = self.folder / "tidehub.secrets.yaml"
        secrets.write_text(secrets.read_text().replace("<CLIENT_SECRET>", SECRET))

    def offer_certificate(self) -> None:
        """The namespace with the certificate of the site."""
        self.node.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        data = {name: base64.b64encode(text.encode()).decode() for name, text in self._tls.items()}
        self.node.api.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/tls",
                "metadata": {"name": _SECRET_NAME, "namespace": NAMESPACE},
                "data": data,
            }
        )

    def tidehub(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """`tidehub WORDS` in the site's folder, whatever its exit code."""
        env = {
            "HOME": str(self.folder),
            "TIDEHUB_CHARTS": str(self.charts),
            "TIDEHUB_HELM": str(self.node.helm),
            **more,
        }
        return self.node.run(
            [sys.executable, "-I", "-m", "tidehub", *words],
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=580,
        )

    def address(self, selector: str) -> str:
        """Of the one pod that a label selector finds in the site's namespace."""
        (pod,) = self.node.api.list("Pod", NAMESPACE, selector=selector)
        return str(pod["status"]["podIP"])

    def target(self) -> Target:
        """What the site promises."""
        address = Target(address=f"https://{HOST}/", certificate=self.node.trusted)
        return promise(address, load_site(self.file))

    @asynccontextmanager
    async def signed_in(self, name: str) -> AsyncIterator[User]:
        """A user who signed in at the provider, in a browser of their own."""
        async with Browser(f"https://{HOST}/", certificate=self.node.trusted) as browser:
            page = await sign_in(browser, name)
            assert page.status == 200, page.words
            yield User(Journey(self.target(), browser, user=(await who(browser))["name"], signed_in=True))

    @asynccontextmanager
    async def at_work(self, name: str) -> AsyncIterator[User]:
        """A signed-in user with a server, which is stopped at the end."""
        async with self.signed_in(name) as user:
            await user.start()
            try:
                yield user
            finally:
                await user.stop()


class User:
    """A user who is signed in, with their browser and server."""

    def __init__(self, journey: Journey) -> None:
        self.journey = journey
        self.browser = journey.browser

    async def start(self) -> None:
        """Start the server from the spawn page and open JupyterLab."""
        await server.start_server(self.journey)
        await server.open_lab(self.journey)

    async def stop(self) -> None:
        """Stop the server and wait for its end."""
        await server.stop_server(self.journey)

    async def run(self, code: str) -> Output:
        """One cell in a kernel of its own."""
        kernel = await self.kernel()
        try:
            return await kernel.run(code)
        finally:
            await kernel.stop()

    async def kernel(self) -> Kernel:
        """A new kernel, which ends with the server."""
        return await Kernel.start(self.browser, server.server_path(self.journey))

    async def token(self) -> str:
        """A token as the hub's Token page makes it."""
        name = self.journey.user
        answer = await self.browser.call("POST", f"hub/api/users/{name}/tokens", json={"note": "tests"})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])


@contextmanager
def resolved(addresses: dict[str, str]) -> Iterator[None]:
    """This process finds these names, as the node's own programs do by /etc/hosts."""
    original = socket.getaddrinfo

    def looked_up(host: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return original(addresses.get(name, host), *rest, **more)

    socket.getaddrinfo = looked_up
    try:
        yield
    finally:
        socket.getaddrinfo = original
