"""`tidehub explain-login`: exit codes, sources of claims, and that a token goes nowhere else."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tidehub.cli.main import run
from tidehub.errors import UsageError
from tidehub.login.claim_sources import claims_of_token, claims_of_user
from tidehub.secrets.secret import Secret

MEMBER = "urn:mace:egi.eu:group:vo.example.eu:role=member"
ANN = {"sub": "1@egi.eu", "preferred_username": "ann", "entitlements": [MEMBER, "urn:mace:egi.eu:res:x#a"]}
TOKEN = "token-of-ann-that-nobody-may-see"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(
        f"site: {{name: Testing}}\nlogin: {{provider: demo, allow: {{groups: ['{MEMBER}']}}}}\n"
        "notebooks: {profiles: [{name: Main, default: true}]}\n"
    )
    return file


@pytest.fixture
def given(tmp_path: Path) -> Any:
    def write(content: Any) -> str:
        file = tmp_path / "claims.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(file)

    return write


def test_admitted_is_0_and_refused_is_1(site: Path, given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain-login", "--claims", given(ANN), "--site", str(site)]) == 0
    assert capsys.readouterr().out.startswith("ADMITTED: ann may enter")
    assert run(["explain-login", "--claims", given({**ANN, "entitlements": []}), "--site", str(site)]) == 1
    assert capsys.readouterr().out.startswith(
        "REFUSED: This site admits members of vo.example.eu (role member)"
    )


def test_json_is_one_object(site: Path, given: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain-login", "--claims", given(ANN), "--site", str(site), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["admitted"], told["rule"], told["user"]) == (True, "login.allow.groups", "ann")
    assert told["skipped"][0]["value"] == "urn:mace:egi.eu:res:x#a"
    assert told["profiles"][0]["memory"]["limit"] == 2 * 2**30
    assert told["dask"]["by"] == "everybody"


@pytest.mark.parametrize(
    "content", ["", "not json", "[]", '"text"', "17", "[" * 100_000, '{"a": "\\ud800"', "\x00"]
)
def test_what_are_no_claims_is_wrong_usage(
    site: Path, given: Any, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain-login", "--claims", given(content), "--site", str(site)]) == 2
    assert "claims.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--claims", "x", "--user", "ann"],
        ["--claims", "x", "--token-stdin"],
        ["--claims", "/does/not/exist"],
        ["--user", "ann", "--state", "/does/not/exist"],
        ["--claims", "x", "--site", "/does/not/exist"],
        ["--token-stdin", "--site", "SITE"],
    ],
)
def test_what_cannot_be_said_is_2(
    site: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(TOKEN + "\n"))
    assert run(["explain-login", *(str(site) if word == "SITE" else word for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "tidehub: " in captured.err
    assert TOKEN not in captured.err


# --- userinfo and the hub ------------------------------------------------------------------------


class Answers(HTTPServer):
    """Answers every request alike, and remembers what came."""

    status, body, location = 200, b"{}", ""
    seen: list[tuple[str, str]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization", "")))
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def provider() -> Iterator[Answers]:
    server = Answers(("127.0.0.1", 0), _Handler)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_userinfo_is_asked_with_the_token(provider: Answers) -> None:
    provider.body = json.dumps(ANN).encode()
    assert claims_of_token(Secret(TOKEN), f"{provider.url}/userinfo") == ANN
    assert provider.seen == [("/userinfo", f"Bearer {TOKEN}")]


def test_a_redirect_gets_no_token(provider: Answers) -> None:
    provider.status, provider.location = 302, f"{provider.url}/elsewhere"
    with pytest.raises(UsageError, match="302"):
        claims_of_token(Secret(TOKEN), f"{provider.url}/userinfo")
    assert [path for path, _ in provider.seen] == ["/userinfo"]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"{}", "refuses this token"),
        (403, b"", "refuses this token"),
        (500, b"<html>", "does not answer with claims"),
        (200, b"<html>", "does not answer with claims"),
        (200, b"[1]", "does not answer with claims"),
        (200, b"\xff", "does not answer with claims"),
        (200, b"[" * 100_000, "does not answer with claims"),
    ],
)
def test_other_answers_are_said(provider: Answers, status: int, body: bytes, words: str) -> None:
    provider.status, provider.body = status, body
    with pytest.raises(UsageError, match=words) as error:
        claims_of_token(Secret(TOKEN), f"{provider.url}/userinfo")
    assert TOKEN not in str(error.value)


def test_a_token_never_travels_in_the_clear() -> None:
    with pytest.raises(UsageError, match="in the clear"):
        claims_of_token(Secret(TOKEN), "http://aai.example.org/userinfo")


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "\u00fc"])
def test_what_is_no_token_is_not_sent(provider: Answers, token: str) -> None:
    with pytest.raises(UsageError, match="no access token"):
        claims_of_token(Secret(token), f"{provider.url}/userinfo")
    assert provider.seen == []


def test_the_hub_is_asked_for_its_record(provider: Answers) -> None:
    provider.body = json.dumps({"name": "a b", "auth_state": {"oauth_user": ANN}}).encode()
    assert claims_of_user("a b/../x", f"{provider.url}/base/hub", Secret(TOKEN)) == ANN
    assert provider.seen == [("/base/hub/api/users/a%20b%2F..%2Fx", f"token {TOKEN}")]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b"{}", "the hub has no user ann"),
        (403, b"{}", "does not answer with claims"),
        (200, b'{"name": "ann"}', "keeps no claims of ann"),
        (200, b'{"auth_state": null}', "keeps no claims of ann"),
        (200, b'{"auth_state": {"oauth_user": []}}', "keeps no claims of ann"),
    ],
)
def test_users_whom_the_hub_cannot_explain(provider: Answers, status: int, body: bytes, words: str) -> None:
    provider.status, provider.body = status, body
    with pytest.raises(UsageError, match=words):
        claims_of_user("ann", provider.url, Secret(TOKEN))
