"""Requests to the API server through the official client: deadlines, retries, credentials that are renewed.

Of the client only the dynamic one's `request` is used, which is the same in its old and new generations. Its own
discovery keeps a cache of a guessable name in the shared temporary directory, so ours takes its place.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

from tidehub.kubernetes.cluster.kubeconfig import Chosen
from tidehub.kubernetes.cluster.plugin import Credential, run_plugin
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.cluster.problems import Server, late, refused, unreachable

CONNECT_SECONDS = 10.0
"""At most, to connect and shake hands."""
ATTEMPTS = 4
"""Tries of a request that may be repeated."""
_PAUSES = (0.2, 0.6, 1.5)
_BUSY = frozenset({500, 502, 503, 504})
_SPARE = timedelta(seconds=30)
"""A plugin's credentials are renewed this long before they expire."""

Query = Sequence[tuple[str, str]]
Repeat = Literal["always", "refused"]
"""`always`: the same request twice has the effect of one. `refused`: only where the server cannot have acted on it."""


class Transport:
    """HTTP to one API server as one user. Safe to use from several threads."""

    def __init__(self, server: Server, chosen: Chosen | None, *, seconds: float) -> None:
        self.server = server
        self.seconds = seconds
        self._chosen = chosen
        self._lock = threading.Lock()
        self._credential: Credential | None = None
        self._dynamic: Any = None
        self.clock_offset: float | None = None
        """Seconds that the server's clock is ahead of ours, by the Date header of its last answer."""

    def request(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Query = (),
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        repeat: Repeat = "refused",
        seconds: float | None = None,
    ) -> Any:
        """The decoded JSON of the answer. `doing` names the call in messages. Raises `ClusterProblem`."""
        limit = self.seconds if seconds is None else seconds
        # Importing the client, or a plugin's login, is not the server's time.
        self._client()
        deadline = time.monotonic() + limit

        def once() -> Any:
            left = deadline - time.monotonic()
            if left <= 0:
                raise late(doing, self.server, limit)
            response = self._send(method, path, query, body, content_type, accept, left, left)
            return _decoded(self._body(response, deadline, doing, limit))

        return self._repeated(once, doing, repeat, limit, deadline)

    def stream(
        self, path: str, *, doing: str, query: Query = (), idle: float, seconds: float | None = None
    ) -> Any:
        """An answer that is read as it comes (a `urllib3` response): reads fail after `idle` seconds of silence."""
        limit = self.seconds if seconds is None else seconds
        deadline = time.monotonic() + limit

        def once() -> Any:
            left = max(deadline - time.monotonic(), 0.1)
            return self._send("GET", path, query, None, "application/json", "*/*", left, idle)

        return self._repeated(once, doing, "always", limit, deadline)

    def configuration(self) -> Any:
        """The client's configuration with credentials that are valid now: for websockets."""
        return self._client().configuration

    def authorization(self) -> str | None:
        """The Authorization header that is valid now; never to be shown."""
        settings = self._client().configuration.auth_settings()
        values = [
            str(one["value"]) for one in settings.values() if one.get("in") == "header" and one.get("value")
        ]
        return values[0] if values else None

    def close(self) -> None:
        """Lets go of the connections."""
        with self._lock:
            dynamic, self._dynamic = self._dynamic, None
        if dynamic is not None:
            dynamic.client.rest_client.pool_manager.clear()

    def _repeated(
        self, once: Callable[[], Any], doing: str, repeat: Repeat, limit: float, deadline: float
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        renewed = False
        attempt = 0
        while True:
            attempt += 1
            wait = _PAUSES[min(attempt, len(_PAUSES)) - 1]
            try:
                return once()
            except ApiException as error:
                if error.status == 401 and not renewed and self._renewable():
                    renewed = True
                    self._renew()
                    continue
                again = error.status == 429 or (repeat == "always" and (error.status in _BUSY or _cut(error)))
                wait = _retry_after(error.headers) or wait
                problem = self._refusal(error, doing, limit)
            except (HTTPError, OSError) as error:
                again = _worth_repeating(error, sure=repeat == "always")
                problem = unreachable(error, doing, self.server, limit)
            if not again or attempt >= ATTEMPTS or time.monotonic() + wait >= deadline:
                raise problem
            time.sleep(wait)

    def _refusal(self, error: Any, doing: str, limit: float) -> ClusterProblem:
        if not error.status:
            # How the client's REST layer reports a TLS failure: no status, the error's words as the reason.
            return unreachable(OSError(str(error.reason)), doing, self.server, limit)
        body = error.body
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
        return refused(int(error.status), text, doing, self.server)

    def _send(
        self,
        method: str,
        path: str,
        query: Query,
        body: Any,
        content_type: str,
        accept: str,
        connect: float,
        read: float,
    ) -> Any:
        response = self._client().request(
            method,
            path,
            body=body,
            query_params=list(query),
            header_params={"Accept": accept},
            content_type=content_type,
            serialize=False,
            _request_timeout=(min(connect, CONNECT_SECONDS), read),
        )
        self._note_clock(response)
        return response

    def _body(self, response: Any, deadline: float, doing: str, limit: float) -> bytes:
        """All of it. A server that drips is late like one that is silent."""
        chunks = []
        for chunk in response.stream(1 << 18, decode_content=True):
            chunks.append(chunk)
            if time.monotonic() > deadline:
                response.close()
                raise late(doing, self.server, limit)
        response.release_conn()
        return b"".join(chunks)

    def _note_clock(self, response: Any) -> None:
        date = response.headers.get("Date")
        if date:
            try:
                self.clock_offset = parsedate_to_datetime(date).timestamp() - time.time()
            except ValueError:
                return

    def _client(self) -> Any:
        with self._lock:
            stale = self._credential is not None and self._credential.stale(datetime.now(UTC) + _SPARE)
            if self._dynamic is None or stale:
                self._dynamic = self._built()
            return self._dynamic

    def _renewable(self) -> bool:
        return self._credential is not None

    def _renew(self) -> None:
        with self._lock:
            self._dynamic = None

    def _built(self) -> Any:
        # The client logs what it does not understand, and urllib3 every retry: callers get our problems instead.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        # One warning of ours (`Server.warnings`) stands for one of urllib3's with every request.
        warnings.filterwarnings("ignore", module="urllib3", message="Unverified HTTPS request")
        from kubernetes.client.api_client import ApiClient
        from kubernetes.dynamic import DynamicClient

        configuration = self._configured()
        # urllib3's own retries would multiply ours, and follow redirects with the credentials.
        configuration.retries = False
        configuration.connection_pool_maxsize = 32
        client = ApiClient(configuration=configuration)
        for name, value in _impersonation(self._chosen).items():
            client.set_default_header(name, value)
        return DynamicClient(client, discoverer=_NoDiscovery)

    def _configured(self) -> Any:
        from kubernetes.client.configuration import Configuration
        from kubernetes.config.config_exception import ConfigException

        configuration = Configuration()
        try:
            if self._chosen is None:
                from kubernetes.config.incluster_config import load_incluster_config

                load_incluster_config(client_configuration=configuration)
            else:
                self._load(self._chosen, configuration)
        except ConfigException as error:
            raise ClusterProblem(
                f"the credentials for {self.server.name} cannot be used: {_first_line(error)}",
                reason="unauthorized",
            ) from error
        return configuration

    def _load(self, chosen: Chosen, configuration: Any) -> None:
        from kubernetes.config.kube_config import KubeConfigLoader

        user = dict(chosen.user)
        if user.get("exec"):
            self._credential = run_plugin(chosen, seconds=self.seconds)
            user = _as_user(self._credential, user)
        document = {
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": dict(chosen.cluster)}],
            "users": [{"name": "it", "user": user}],
        }
        KubeConfigLoader(config_dict=document, config_base_path=str(chosen.folder)).load_and_set(
            configuration
        )
        if user.get("tokenFile") and not user.get("token"):
            _reread(configuration, str(user["tokenFile"]))


class _NoDiscovery:
    """In place of the client's discovery."""

    def __init__(self, client: Any, cache_file: str | None) -> None:
        return


def _as_user(credential: Credential, user: Mapping[str, Any]) -> dict[str, Any]:
    import base64

    kept = {key: value for key, value in user.items() if key not in ("exec", "token", "tokenFile")}
    if credential.token:
        kept["token"] = credential.token
    if credential.certificate and credential.key:
        kept["client-certificate-data"] = base64.b64encode(credential.certificate.encode()).decode()
        kept["client-key-data"] = base64.b64encode(credential.key.encode()).decode()
    return kept


def _impersonation(chosen: Chosen | None) -> dict[str, str]:
    """`as` and `as-groups` of a kubeconfig, which the client's loader leaves out: the wrong user would act."""
    user = chosen.user if chosen is not None else {}
    groups = list(user.get("as-groups") or [])
    if len(groups) > 1 or user.get("as-user-extra"):
        raise ClusterProblem(
            "the kubeconfig impersonates several groups or extra fields, which tidehub cannot",
            reason="other",
            expected="`as` with at most one of `as-groups`",
        )
    headers = {"Impersonate-User": str(user["as"])} if user.get("as") else {}
    return headers | ({"Impersonate-Group": str(groups[0])} if groups else {})


def _reread(configuration: Any, path: str) -> None:
    """A token file is renewed by someone else; the client's loader reads it once."""

    def fresh(current: Any) -> None:
        try:
            token = Path(path).read_text(encoding="utf-8").strip()
        except OSError:
            return
        for key in current.api_key:
            current.api_key[key] = f"Bearer {token}"

    configuration.refresh_api_key_hook = fresh


def _worth_repeating(error: BaseException, *, sure: bool) -> bool:
    from urllib3.exceptions import NewConnectionError, ProtocolError, ProxyError

    if isinstance(error, NewConnectionError):
        return "refused" in str(error)
    return sure and isinstance(error, (ProtocolError, ConnectionError)) and not isinstance(error, ProxyError)


def _cut(error: Any) -> bool:
    """A connection that ended within the TLS handshake, which the client reports as an answer without a status."""
    return not error.status and any(mark in str(error.reason) for mark in ("EOF occurred", "reset by peer"))


def _retry_after(headers: Any) -> float | None:
    value = headers.get("Retry-After") if headers is not None else None
    try:
        return float(value) if value else None
    except ValueError:
        return None


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body) if body else {}
    except ValueError as error:
        raise ClusterProblem(
            "the answer is not JSON: something that is not a Kubernetes API server answers",
            reason="unreachable",
            expected="an API server at the address that the kubeconfig names",
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
