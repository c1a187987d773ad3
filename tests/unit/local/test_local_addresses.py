from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tidehub.local.addresses import (
    HELD,
    LOW_PORTS,
    OWN,
    Front,
    Known,
    Ports,
    forget_asked_port,
    from_elsewhere,
    front_of,
    keep_ports,
    known_front,
    remember_front,
    remember_ports,
)
from tidehub.local.front.ports import first_free_for_all
from tidehub.local.places import Places
from tidehub.local.supervisor.listeners import Listeners
from tidehub.site.model import Site
from tidehub.system.files import write_private


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


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.of(tmp_path / "state").ensure(other_users=False)


def opened(places: Places) -> Ports:
    """What a start finds and remembers, with its sockets closed again."""
    listeners = Listeners(places)
    ports = keep_ports(places.ports, listeners)
    listeners.leave(nothing_runs=True)
    remember_ports(places.ports, ports)
    return ports


def test_ports_stay_and_a_taken_one_is_replaced_and_named(places: Places) -> None:
    first = opened(places)
    assert len(set(first.of.values())) == len(first.of) and not first.stolen
    assert opened(places) == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first.of["hub"]))
        other.listen()
        second = opened(places)
    assert second.of["hub"] != first.of["hub"]
    assert second.stolen == {"hub": first.of["hub"]}
    assert {k: v for k, v in second.of.items() if k != "hub"} == {
        k: v for k, v in first.of.items() if k != "hub"
    }


def test_a_damaged_ports_file_is_made_anew(places: Places) -> None:
    write_private(places.ports, '{"hub": "x", ')
    assert set(opened(places).of) == {*HELD, *OWN}
    write_private(places.ports, '{"hub": "x", "identity": 0, "gateway": 70000, "dashboards": true}')
    assert not opened(places).stolen


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.root
def test_as_root_the_ports_that_are_not_held_are_privileged_and_stay(places: Places) -> None:
    if first_free_for_all() <= LOW_PORTS.start:
        pytest.skip("this machine has no privileged ports")
    found = []
    for _ in range(2):
        listeners = Listeners(places)
        ports = keep_ports(places.ports, listeners, low=True)
        remember_ports(places.ports, ports)
        listeners.leave(nothing_runs=True)
        found.append(ports.of)
    assert found[0] == found[1]
    assert all(found[0][name] < first_free_for_all() for name in OWN)


@pytest.mark.parametrize(
    ("known", "asked", "site_port", "kept"),
    [
        # It was started with --port 9000, and did not stop cleanly.
        (Known(9000, 8000), None, 8000, 9000),
        (Known(9000, 8000), 9100, 8000, None),
        (Known(9000, 8000), 0, 8000, 9000),
        # The site has another port since, and that is meant.
        (Known(9000, 8000), None, 8010, None),
        # It stopped cleanly, or was never anywhere else.
        (Known(9000), None, 8000, None),
        (Known(8000), None, 8000, None),
        # Any port is meant: the one that users know is one.
        (Known(40000), None, 0, 40000),
        (Known(40000), 0, 8000, 40000),
        (Known(40000), 8000, 0, None),
    ],
)
def test_the_port_that_users_know_is_kept(
    known: Known, asked: int | None, site_port: int, kept: int | None
) -> None:
    assert known.for_start(asked=asked, site=site_port) == kept


def test_the_port_that_users_know_is_written_down_and_its_option_ends_with_a_clean_stop(
    places: Places,
) -> None:
    assert known_front(places.front) is None
    forget_asked_port(places.front)
    assert not places.front.exists()
    remember_front(places.front, Known(9000, 8000))
    assert known_front(places.front) == Known(9000, 8000)
    forget_asked_port(places.front)
    assert known_front(places.front) == Known(9000)
    write_private(places.front, '{"port": "9000", ')
    assert known_front(places.front) is None


@pytest.mark.parametrize(
    ("listen", "connection", "said"),
    [
        ("127.0.0.1", "192.0.2.7 51234 198.51.100.4 22", "ssh -N -L 8000:127.0.0.1:8000 ann@198.51.100.4"),
        (
            "127.0.0.1",
            "192.0.2.7 51234 2001:db8::4 2222",
            "ssh -N -L 8000:127.0.0.1:8000 -p 2222 ann@2001:db8::4",
        ),
        ("127.0.0.1", "", None),
        ("127.0.0.1", "nonsense", None),
        ("0.0.0.0", "192.0.2.7 51234 198.51.100.4 22", None),
    ],
)
def test_who_came_over_ssh_reads_how_a_browser_reaches_the_platform(
    listen: str, connection: str, said: str | None
) -> None:
    front = Front(listen, 8000, "http://127.0.0.1:8000/", "/")
    found = from_elsewhere(front, {"SSH_CONNECTION": connection, "LOGNAME": "ann"})
    assert found == ([f"From your own machine: {said}"] if said else [])
