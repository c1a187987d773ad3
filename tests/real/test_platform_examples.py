"""The two example sites, tried out with the embedded login: the site's own rule, profiles and limits decide."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real_platform import REPOSITORY, RealPlatform, running_platform
from real_user import login

from tidehub.checks.browser import Browser
from tidehub.checks.login import sign_in
from tidehub.checks.report import PhaseFailed
from tidehub.checks.target import Account

pytestmark = pytest.mark.real

EXAMPLES = {
    "protocoast": ("/", ["protocoast-main", "protocoast-develop"]),
    "pangeo": ("/jupyterhub/", None),
}


@pytest.fixture(scope="module", params=sorted(EXAMPLES))
def example(request: pytest.FixtureRequest) -> Iterator[tuple[str, RealPlatform]]:
    site = REPOSITORY / "examples" / request.param / "tidehub.yaml"
    with running_platform(request.param[:5], "--site", str(site), "--fit") as started:
        yield request.param, started


def test_check_passes(example: tuple[str, RealPlatform]) -> None:
    name, platform = example
    base, profiles = EXAMPLES[name]
    assert platform.address.startswith("http://127.0.0.1:") and platform.address.endswith(base)
    if profiles:
        assert list(platform.target.profiles) == profiles
    code, report = platform.check()
    assert code == 0, report
    states = {phase["name"]: phase["state"] for phase in report["phases"]}
    if platform.target.workers:
        assert set(states.values()) == {"ok"}, states
    else:
        assert states["cell"] == "ok"


@pytest.mark.parametrize("name", ["rita", "nora"])
async def test_who_is_not_a_member_reads_which_membership_is_missing(
    example: tuple[str, RealPlatform], name: str
) -> None:
    platform = example[1]
    async with Browser(platform.address) as browser:
        with pytest.raises(PhaseFailed) as refusal:
            await sign_in(browser, Account(name, platform.accounts[name]))
    assert "403" in refusal.value.why and f"signed in as {name}" in refusal.value.why
    assert "members of vo.pangeo.eu (role member)" in refusal.value.why


async def test_the_spawn_page_is_the_sites(example: tuple[str, RealPlatform]) -> None:
    name, platform = example
    if name != "protocoast":
        pytest.skip("one profile: nothing to choose")
    async with login(platform, "olga") as olga:
        page = await olga.open("hub/spawn")
    for words in ("ProtoCoast", "ProtoCoast - main", "Stable production version", "ProtoCoast - develop"):
        assert words in page.html
