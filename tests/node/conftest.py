"""Fixtures of the tests on a node with real containers. A file of tests has a node of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import node_software
import pytest
from independent_provider import MEMBER, user
from node_components import ADDRESS, PROVIDER_ADDRESS
from node_machine import Node
from protocoast import HOST, PROVIDER, ProtoCoast, resolved

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.node)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips, all from here because that gives one line in the summary."""
    if "node" not in getattr(item, "fixturenames", ()):
        return
    if reason := node_software.why_not():
        pytest.skip(f"no node can run here: {reason}")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that is ready. This thread is in its network until the module's end."""
    software = node_software.find()
    assert software is not None
    hosts = {HOST: ADDRESS, PROVIDER: PROVIDER_ADDRESS}
    with Node(tmp_path_factory.mktemp("node"), software, hosts) as started, resolved(hosts):
        yield started


@pytest.fixture(scope="session")
def upstream_charts() -> Path:
    """The charts, as archives `NAME-VERSION.tgz`."""
    named = os.environ.get("TIDEHUB_CHARTS", "")
    if not named:
        pytest.skip(
            "TIDEHUB_CHARTS names no directory of upstream charts: CONTRIBUTING.md says how to get them"
        )
    return Path(named)


@pytest.fixture(scope="module")
def protocoast(
    node: Node, tmp_path_factory: pytest.TempPathFactory, upstream_charts: Path
) -> Iterator[ProtoCoast]:
    """The site, deployed and open; its provider knows alice and Carol.Coast, and bob, who is no member."""
    site = ProtoCoast(node, tmp_path_factory.mktemp("site"), upstream_charts)
    site.provider.accounts = {
        "alice": user("alice", MEMBER),
        "carol": user("Carol.Coast", MEMBER),
        "bob": user("bob"),
    }
    site.provider.start()
    try:
        site.write()
        site.offer_certificate()
        deployed = site.tidehub("deploy")
        assert deployed.returncode == 0, f"{deployed.stdout}{deployed.stderr}"
        yield site
    finally:
        site.provider.stop()
