from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tidehub.local.supervisor.state import Answer, ControlServer, ask_supervisor


async def handle(request: Mapping[str, object]) -> AsyncIterator[Answer]:
    yield {"ok": True, "request": dict(request)}
    yield {"done": True}


def ask(path: Path, request: dict[str, object]) -> list[Answer]:
    return list(ask_supervisor(path, request, timeout=5))


async def test_answers_come_line_by_line_over_a_private_socket_of_any_path_length(tmp_path: Path) -> None:
    directory = tmp_path / ("x" * 150)
    directory.mkdir()
    path = directory / "control.sock"
    path.write_text("a dead socket's place")
    server = ControlServer(path, handle)
    await server.open()
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        answers = await asyncio.to_thread(ask, path, {"do": "status"})
        assert answers == [{"ok": True, "request": {"do": "status"}}, {"done": True}]
    finally:
        await server.close()
    assert not path.exists()


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n"])
async def test_nonsense(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "control.sock"
    server = ControlServer(path, handle)
    await server.open()
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(line)
        assert b"not understood" in await reader.readline()
        writer.close()
    finally:
        await server.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        ask(tmp_path / "control.sock", {"do": "status"})
