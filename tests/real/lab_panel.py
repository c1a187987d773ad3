"""What JupyterLab's Dask panel asks its server for, as the panel does."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
from gateway_platform import wait_for

_LEFT_RUNNING = """
from dask_gateway import Gateway
cluster = Gateway().new_cluster(shutdown_on_close=False)
print("NAME", cluster.name)
"""
_SHUT_DOWN = """
from dask_gateway import Gateway
Gateway().stop_cluster("{name}")
print("LEFT", len(Gateway().list_clusters()))
"""


def left_running(notebook: Callable[[str], str]) -> str:
    """The name of a cluster that a notebook has made and not ended; `notebook` runs code and gives what it writes."""
    found = re.search(r"NAME (\S+)", notebook(_LEFT_RUNNING))
    assert found is not None
    return found[1]


def clusters_made_elsewhere(lab: httpx.Client, base: str, notebook: Callable[[str], str]) -> None:
    """The panel's list has clusters that it did not start, of this user only, scales and ends them, and forgets."""

    def listed() -> list[dict[str, Any]]:
        answer = lab.get(f"{base}/dask/clusters/")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    assert listed() == []
    names = [left_running(notebook) for _ in range(2)]
    found = {one["dashboard_link"].split("/")[-2]: one for one in listed()}
    assert sorted(found) == sorted(names)
    first, second = (found[name] for name in names)
    assert lab.patch(f"{base}/dask/clusters/{first['id']}", json={"workers": 1}).status_code == 200
    wait_for("a worker", lambda: [one["workers"] for one in listed() if one["id"] == first["id"]] == [1], 60)
    assert lab.delete(f"{base}/dask/clusters/{first['id']}").status_code == 204
    assert [one["id"] for one in listed()] == [second["id"]]
    assert "LEFT 0" in notebook(_SHUT_DOWN.format(name=names[1]))
    assert listed() == []


def plots_of(lab: httpx.Client, dashboard: str) -> dict[str, str]:
    """The plots that a dashboard offers; one of them is opened, and its WebSocket gives the document."""
    answer = lab.get(f"{dashboard}/individual-plots.json")
    assert answer.status_code == 200, answer.text
    plots: dict[str, str] = answer.json()
    page = lab.get(f"{dashboard}{plots['Individual Task Stream']}")
    assert page.status_code == 200
    assert "bokeh" in page.text
    token = re.search(r'"token":"([^"]+)"', page.text)
    assert token
    socket = f"{dashboard}/individual-task-stream/ws".replace("http://", "ws://")
    assert asyncio.run(_bokeh_answers(socket, token[1], lab.headers["Authorization"]))
    return plots


async def _bokeh_answers(url: str, token: str, authorization: str) -> bool:
    headers = {"Authorization": authorization}
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(
            url, protocols=("bokeh", token), headers=headers, max_msg_size=0
        ) as socket:
            for part in ({"msgid": "1", "msgtype": "PULL-DOC-REQ"}, {}, {}):
                await socket.send_str(json.dumps(part))
            return await find_reply(socket)


async def find_reply(socket: aiohttp.ClientWebSocketResponse) -> bool:
    """Whether bokeh answers with the document: a header fragment, then the content with the page's models."""
    for _ in range(30):
        message = await asyncio.wait_for(socket.receive(), 20)
        if message.type is not aiohttp.WSMsgType.TEXT:
            return False
        if "PULL-DOC-REPLY" in message.data:
            await socket.receive()
            content: Any = json.loads((await socket.receive()).data)
            return bool(content["doc"]["roots"])
    return False
