"""A kernel of a notebook server, used as JupyterLab uses it: REST to start it, its websocket to run cells."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tornado.websocket import WebSocketClientConnection, WebSocketClosedError

from tidehub.checks.browser import Browser
from tidehub.checks.report import PhaseFailed

_PROTOCOL = "5.4"
"""Jupyter messaging protocol (jupyter_client, "Messaging in Jupyter")."""
_SHOWN_LINES = 6
_RESTART_SECONDS = 15.0


@dataclass(frozen=True)
class Output:
    """What a cell showed. `stderr` and `stdout` are what it printed, `error` is empty or its last traceback line."""

    stdout: str
    stderr: str
    error: str
    traceback: tuple[str, ...] = ()

    def value(self) -> dict[str, Any]:
        """The JSON object in the last printed line. Raises `PhaseFailed` when there is none."""
        printed = self.stdout.strip().splitlines()
        try:
            found = json.loads(printed[-1])
        except (IndexError, ValueError):
            raise PhaseFailed("the cell did not print its result", printed[-_SHOWN_LINES:]) from None
        if not isinstance(found, dict):
            raise PhaseFailed("the cell did not print its result", printed[-_SHOWN_LINES:])
        return found


class Kernel:
    """One kernel and the websocket to it."""

    def __init__(
        self, browser: Browser, base: str, ident: str, session: str, socket: WebSocketClientConnection
    ) -> None:
        self._browser = browser
        self._base = base
        self._socket = socket
        self._session = session
        self.ident = ident

    @classmethod
    async def start(cls, browser: Browser, base: str) -> Kernel:
        """Starts a kernel on the server at `base` (its path, ending in `/`) and connects to it."""
        answer = await browser.call("POST", f"{base}api/kernels", json={"name": "python3"})
        if answer.status_code != 201:
            raise PhaseFailed(
                f"the notebook server refused to start a kernel: {_words(answer.text, answer.status_code)}"
            )
        return await cls.connect(browser, base, str(answer.json()["id"]))

    @classmethod
    async def connect(cls, browser: Browser, base: str, ident: str) -> Kernel:
        """Connects to a running kernel."""
        session = uuid.uuid4().hex
        path = f"{base}api/kernels/{ident}/channels?session_id={session}"
        return cls(browser, base, ident, session, await browser.websocket(path, timeout=60))

    async def run(self, code: str) -> Output:
        """Executes one cell and waits for its end. Raises `PhaseFailed` when the kernel goes away meanwhile."""
        sent = self._request("execute_request", _execution(code))
        try:
            await self._socket.write_message(json.dumps(sent))
        except WebSocketClosedError:
            raise PhaseFailed("the kernel's websocket is closed") from None
        printed: dict[str, list[str]] = {"stdout": [], "stderr": []}
        failure: dict[str, Any] | None = None
        replied = idle = False
        while not (replied and idle):
            message = await self._receive()
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] in ("restarting", "dead", "autorestarting"):
                told = "".join(printed["stderr"]).strip().splitlines()
                raise PhaseFailed(
                    "the kernel died while it ran the cell" + (f": {told[-1]}" if told else ""), told
                )
            if message.get("parent_header", {}).get("msg_id") != sent["header"]["msg_id"]:
                continue
            if kind == "stream":
                printed[content["name"]].append(content["text"])
            elif kind == "error":
                failure = content
            elif kind == "execute_reply":
                replied = True
            elif kind == "status":
                idle = content["execution_state"] == "idle"
        texts = {name: "".join(parts) for name, parts in printed.items()}
        if failure is None:
            return Output(texts["stdout"], texts["stderr"], "")
        shown = tuple(line for block in failure.get("traceback", []) for line in plain(block).splitlines())
        return Output(texts["stdout"], texts["stderr"], f"{failure['ename']}: {failure['evalue']}", shown)

    async def result(self, code: str) -> dict[str, Any]:
        """Executes a cell that prints a JSON object last. Raises `PhaseFailed` with the cell's error."""
        output = await self.run(code)
        if output.error:
            raise PhaseFailed(output.error, _warnings(output.stderr))
        return output.value()

    async def stop(self) -> None:
        """Ends the kernel. Raises `PhaseFailed` when the server refuses."""
        self.disconnect()
        patience = time.monotonic() + _RESTART_SECONDS
        while True:
            answer = await self._browser.call("DELETE", f"{self._base}api/kernels/{self.ident}")
            # jupyter_client 8 answers a stop during a restart with 500 (InvalidStateError): the restart ends soon.
            if answer.status_code != 500 or time.monotonic() > patience:
                break
            await asyncio.sleep(0.5)
        if answer.status_code not in (204, 404):
            raise PhaseFailed(f"the kernel cannot be stopped: {_words(answer.text, answer.status_code)}")

    def disconnect(self) -> None:
        """Leaves the kernel running and closes the websocket."""
        self._socket.close()

    async def _receive(self) -> dict[str, Any]:
        raw = await self._socket.read_message()
        if raw is None:
            raise PhaseFailed(
                "the kernel's websocket was closed while the cell ran"
                + (f" ({self._socket.close_reason})" if self._socket.close_reason else "")
            )
        message: dict[str, Any] = json.loads(raw)
        return message

    def _request(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        return {
            "channel": "shell",
            "header": {
                "msg_id": uuid.uuid4().hex,
                "session": self._session,
                "username": "",
                "date": datetime.now(UTC).isoformat(),
                "msg_type": kind,
                "version": _PROTOCOL,
            },
            "parent_header": {},
            "metadata": {},
            "content": content,
            "buffers": [],
        }


def _execution(code: str) -> dict[str, Any]:
    return {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }


def plain(text: str) -> str:
    """`text` without the terminal colours of IPython's tracebacks."""
    pieces = text.split("\x1b[")
    return pieces[0] + "".join(piece.partition("m")[2] for piece in pieces[1:])


def _warnings(stderr: str) -> list[str]:
    return [line.strip() for line in stderr.splitlines() if "Warning" in line or "Error" in line][
        -_SHOWN_LINES:
    ]


def _words(body: str, status: int) -> str:
    try:
        said = json.loads(body)
        return f"{status}, {said.get('message') or said.get('reason') or 'no reason given'}"
    except (ValueError, AttributeError):
        return str(status)
