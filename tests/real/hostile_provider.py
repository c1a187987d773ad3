"""An identity provider that does what a test tells it to, for attacks that no honest one would join in."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "hub-under-attack", "secret-of-the-attacked-hub"


@dataclass
class HostileProvider:
    """It signs everybody in at once. `reservations`, `change` and `make` say as whom, and with which ID token."""

    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "known", "use": "sig"}))
    reservations: dict[str, Any] = field(default_factory=dict)
    """What userinfo says."""
    change: dict[str, Any] = field(default_factory=dict)
    """Reservations of the ID token that differ from the right ones; None removes one."""
    make: Callable[[dict[str, Any]], str | None] | None = None
    """Makes the ID token from its reservations, where signing is the attack."""
    token_error: tuple[int, str] | None = None
    answer: dict[str, str] = field(default_factory=dict)
    """Parameters of the answer to the browser that differ from the right ones; empty removes one."""
    seen: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._post(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.nonces: dict[str, str] = {}
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def honest(self, **reservations: Any) -> None:
        """Forget all attacks; the user is the one of these reservations."""
        self.reservations = {"sub": "1@op", "preferred_username": "alice", **reservations}
        self.change, self.answer, self.make, self.token_error = {}, {}, None, None

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def sign(self, reservations: dict[str, Any], key: Any = None, **header: Any) -> str:
        head = {"alg": "RS256", "kid": "known", **header}
        return jwt.encode(head, reservations, key or self.key, algorithms=[head["alg"]])

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            _say(
                request,
                {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/auth",
                    "token_endpoint": f"{self.issuer}/token",
                    "userinfo_endpoint": f"{self.issuer}/userinfo",
                    "jwks_uri": f"{self.issuer}/jwks",
                    "authorization_response_iss_parameter_supported": True,
                },
            )
        elif parts.path == "/jwks":
            _say(request, {"keys": [self.key.as_dict(private=False)]})
        elif parts.path == "/userinfo":
            _say(request, self.reservations)
        else:
            self.seen.append(query)
            code = f"code-{len(self.seen)}"
            self.nonces[code] = query.get("nonce", "")
            answer = {"code": code, "state": query["state"], "iss": self.issuer, **self.answer}
            target = f"{query['redirect_uri']}?{urlencode({k: v for k, v in answer.items() if v})}"
            request.send_response(302)
            request.send_header("Location", target)
            request.end_headers()

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if self.token_error:
            _say(request, {"error": self.token_error[1]}, self.token_error[0])
            return
        now = int(time.time())
        right = {
            "iss": self.issuer,
            "sub": self.reservations.get("sub"),
            "aud": CLIENT,
            "iat": now,
            "exp": now + 600,
            "nonce": self.nonces.get(form.get("code", ""), ""),
        }
        reservations = {name: value for name, value in {**right, **self.change}.items() if value is not None}
        token = self.make(reservations) if self.make else self.sign(reservations)
        _say(
            request,
            {
                "access_token": f"access-{form.get('code')}",
                "token_type": "Bearer",
                "expires_in": 600,
                **({"id_token": token} if token else {}),
            },
        )


def _say(request: BaseHTTPRequestHandler, content: Any, status: int = 200) -> None:
    data = json.dumps(content).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
