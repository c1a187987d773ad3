from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tidehub.local.addresses import front_of, keep_ports
from tidehub.site.model import Site


def site(url: str | None = None, **machine: Any) -> Site:
    return Site.model_validate(
        {
            "site": {"name": "X", "url": url},
            "login": {"provider": "demo", "allow": {"everyone": True}},
            "notebooks": {"profiles": [{"name": "A", "default": True}]},
            "machine": machine,
        }
    )


@pytest.mark.parametrize(
    ("url", "machine", "demo", "public", "listen"),
    [
        (None, {}, True, "http://127.0.0.1:8000/", "127.0.0.1"),
        ("https://x.example.org/jupyterhub/", {"port": 443}, True, "http://127.0.0.1:8000/jupyterhub/", "127.0.0.1"),
        ("https://pangeo.example.org/jupyterhub", {"address": "0.0.0.0", "trusted_proxies": ["10.0.0.1"]}, False,
         "https://pangeo.example.org/jupyterhub/", "0.0.0.0"),
        ("https://hub.example.org", {}, False, "https://hub.example.org/", "127.0.0.1"),
        ("https://localhost:8443/b", {"port": 8443, "tls": {"certificate": "c", "key": "k"}}, True,
         "https://localhost:8443/b/", "127.0.0.1"),
        (None, {"port": 8443, "tls": {"certificate": "c", "key": "k"}}, True, "https://127.0.0.1:8443/", "127.0.0.1"),
        (None, {"address": "0.0.0.0", "tls": {"certificate": "c", "key": "k"}}, True,
         "http://127.0.0.1:8000/", "127.0.0.1"),
        (None, {"port": 9000}, False, "http://127.0.0.1:9000/", "127.0.0.1"),
    ],
)  # fmt: skip
def test_the_front_door(
    url: str | None, machine: dict[str, Any], demo: bool, public: str, listen: str
) -> None:
    front = front_of(site(url, **machine), port=None, demo=demo)
    assert (front.public_url, front.listen) == (public, listen)
    assert front.public_url == front.origin + front.base_path


def test_ports_stay_and_a_taken_one_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = keep_ports(file)
    assert len(set(first.values())) == len(first)
    assert keep_ports(file) == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first["hub"]))
        other.listen()
        second = keep_ports(file)
    assert second["hub"] != first["hub"]
    assert {k: v for k, v in second.items() if k != "hub"} == {k: v for k, v in first.items() if k != "hub"}


def test_a_damaged_ports_file_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    file.write_text('{"hub": "x", ')
    assert set(keep_ports(file)) == set(json.loads(file.read_text()))
