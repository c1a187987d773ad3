"""Packages that users install themselves: where they go, who sees them, and that none locks anybody out."""

from __future__ import annotations

import html
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from real_platform import RealPlatform, unprivileged_platform
from real_user import User, eventually, login

from tidehub.checks import server
from tidehub.checks.kernel import Kernel
from tidehub.checks.login import has_server

pytestmark = pytest.mark.real

WHEELS = '''
import pathlib, zipfile
def wheel(name, version, modules):
    """A wheel as PEP 427 says it; pip asks for no hashes."""
    folder = pathlib.Path.home() / "wheels"
    folder.mkdir(exist_ok=True)
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    files = modules | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{plain}-{version}-py3-none-any.whl", "w") as packed:
        for path, text in files.items():
            packed.writestr(path, text)

wheel("tide-one", "1.0", {"tide_one.py": "ANSWER = 1"})
wheel("tide-two", "2.0", {"tide_two.py": "ANSWER = 2"})
wheel("tide-three", "3.0", {"tide_three.py": "ANSWER = 3"})
wheel("jupyter-server", "99.0", {"jupyter_server/__init__.py": "raise SystemExit('broken')"})
wheel("tornado", "99.0", {"tornado/__init__.py": "raise SystemExit('broken')"})
'''
"""What is there to install, in `~/wheels`: there is no package index."""
FROM_HERE = "--no-index --no-build-isolation --find-links ~/wheels"
FROM_HERE_UV = "--no-index --offline --find-links ~/wheels"


async def told(user: User, code: str) -> str:
    """What a new kernel printed; a failed cell fails the test."""
    output = await user.run(code)
    assert not output.error, (output.error, output.stdout)
    return str(output.stdout)


async def restart(user: User, query: str = "") -> None:
    """Stops the server, and starts it anew, by the page that the link on the home page opens if there is a `query`."""
    if user.journey.server_started:
        await user.stop()
    if not query:
        await user.start()
        return
    user.journey.server_started = True
    page = await user.open(f"hub/spawn/{user.name}?{query}")
    assert page.status == 200, page.words

    async def ready() -> bool:
        servers = (await user.record())["servers"]
        return bool(servers.get("", {}).get("ready"))

    await eventually(ready, within=90, saying="a server without own packages")
    await server.open_lab(
        user.journey
    )  # a slow start leaves the page that waits, before the server's own login


@pytest.fixture(scope="module", params=["root", "bubblewrap", "single"])
def separated(request: pytest.FixtureRequest) -> Iterator[RealPlatform]:
    """A platform for each way in which users are kept apart; the last two are an ordinary user's."""
    if request.param == "single":
        # An ordinary machine without the one program that makes sandboxes.
        programs = Path(tempfile.mkdtemp(prefix="th-bin-", dir="/tmp"))
        programs.chmod(0o755)
        for program in Path("/usr/bin").iterdir():
            if program.name != "bwrap":
                (programs / program.name).symlink_to(program)
        try:
            with unprivileged_platform(request, "single", PATH=str(programs)) as started:
                yield started
        finally:
            shutil.rmtree(programs)
        return
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("only root gives users uids of their own")
    yield request.getfixturevalue("platform" if request.param == "root" else "sandboxed_platform")


@pytest.fixture
async def alice(separated: RealPlatform, request: pytest.FixtureRequest) -> AsyncIterator[User]:
    """Signed in, with a server and with wheels to install."""
    assert separated.status()["isolation"] == request.node.callspec.params["separated"]
    async with login(separated, "alice") as user:
        assert not has_server(await user.record())
        await user.start()
        await told(user, WHEELS)
        yield user
        # What a test installed is no other test's.
        await user.run("import os, shutil; shutil.rmtree(os.environ['TIDEHUB_PACKAGES'], ignore_errors=True)")


async def test_what_a_user_installs_is_in_the_home_and_found_by_kernels_and_workers(
    alice: User,
) -> None:
    said = await told(
        alice,
        f"""
%pip install {FROM_HERE} tide-one
!pip install {FROM_HERE} tide-two
!uv pip install {FROM_HERE_UV} tide-three
import importlib; importlib.invalidate_caches()
import os, sys, tide_one, tide_two, tide_three
places = {{module.__file__.startswith(os.environ["TIDEHUB_PACKAGES"]) for module in (tide_one, tide_two, tide_three)}}
print("inside", places, os.environ["TIDEHUB_PACKAGES"].startswith(os.environ["HOME"]))
print("path", [os.path.expanduser("~/.local/bin") in os.environ["PATH"].split(":")])
import numpy, scipy; print("profile", numpy.__file__.startswith("/opt") or "environments" in numpy.__file__)
""",
    )
    assert "inside {True} True" in said and "path [True]" in said and "profile True" in said, said
    assert "externally-managed" not in said
    await restart(alice)
    said = await told(
        alice,
        """
import tide_one
from dask_gateway import GatewayCluster
with GatewayCluster() as cluster:
    cluster.scale(1)
    with cluster.get_client() as client:
        def answers():
            import os, tide_one, tide_two, tide_three
            return tide_one.ANSWER + tide_two.ANSWER + tide_three.ANSWER, os.environ["PATH"].split(":")[0]
        total, first = client.submit(answers).result(timeout=120)
        import os
        print("worker", total, first == os.environ["TIDEHUB_PACKAGES"] + "/bin")
        print("scheduler", client.run_on_scheduler(lambda: __import__("tide_one").ANSWER))
""",
    )
    assert "worker 6 True" in said and "scheduler 1" in said, said
    # Without, once: the next start has them again, although no form was shown in between.
    await restart(alice, "without_packages=yes")
    tried = await told(
        alice,
        "import importlib.util, os, sys\nplace = os.environ['TIDEHUB_PACKAGES']\n"
        "print([importlib.util.find_spec('tide_one'), os.path.isdir(place)])",
    )
    assert "[None, True]" in tried, tried
    await restart(alice)
    assert "1" in await told(alice, "import tide_one; print(tide_one.ANSWER)")


async def test_a_kernel_of_an_own_environment_is_found_and_has_nothing_of_this(alice: User) -> None:
    await told(
        alice,
        f"""
%pip install {FROM_HERE} tide-one
!python -m venv --without-pip ~/ocean
import glob, os, numpy
# As `pip install ipykernel` would, which needs a network.
(place,) = glob.glob(os.path.expanduser("~/ocean/lib/python*/site-packages"))
open(place + "/lent.pth", "w").write(os.path.dirname(os.path.dirname(numpy.__file__)))
!~/ocean/bin/python -m ipykernel install --user --name ocean
""",
    )
    answer = await alice.call("POST", f"{alice.base}api/kernels", json={"name": "ocean"})
    assert answer.status_code == 201, answer.text
    kernel = await Kernel.connect(alice.browser, alice.base, str(answer.json()["id"]))
    try:
        output = await kernel.run(
            "import importlib.util, os, sys\n"
            "print(sys.prefix == os.path.expanduser('~/ocean'), importlib.util.find_spec('tide_one'))"
        )
        assert output.stdout == "True None\n", (output.stdout, output.error)
    finally:
        await kernel.stop()
    await told(alice, "!rm -r ~/ocean ~/.local/share/jupyter/kernels/ocean")


async def test_a_package_that_breaks_the_server_or_the_place_itself_locks_nobody_out(alice: User) -> None:
    await told(
        alice,
        f"""
%pip install {FROM_HERE} --no-deps jupyter-server==99.0 tornado==99.0
""",
    )
    await restart(alice)
    answer = await alice.call("GET", f"{alice.base}api/status")
    assert answer.status_code == 200
    # Kernels need tornado; without the packages they start, and the damage can be mended from there.
    await restart(alice, "without_packages=yes")
    said = await told(
        alice, '!"$TIDEHUB_PACKAGES/bin/pip" uninstall -y tornado jupyter-server\nprint("mended")'
    )
    assert "mended" in said
    await restart(alice)
    assert "42" in await told(alice, "import tornado; print(6 * 7)")
    # A file where the directory should be.
    await told(
        alice,
        "import os, shutil\np = os.path.expanduser('~/.local/share/tidehub'); shutil.rmtree(p); open(p, 'w').close()",
    )
    await restart(alice)
    assert "42" in await told(
        alice, "import os; os.remove(os.path.expanduser('~/.local/share/tidehub')); print(6 * 7)"
    )


async def test_an_updated_environment_starts_without_and_says_what_there_was(alice: User) -> None:
    await told(
        alice,
        f"""
%pip install {FROM_HERE} tide-one
import os
place = os.environ["TIDEHUB_PACKAGES"]
os.rename(place, os.path.join(os.path.dirname(place), "0123456789ab-py311"))
""",
    )
    await restart(alice)
    said = await told(
        alice,
        f"""
import importlib.util
print("found", importlib.util.find_spec("tide_one"))
print(open("packages-of-former-environment.txt").read())
%pip install {FROM_HERE} -r ~/packages-of-former-environment.txt
importlib.invalidate_caches()
print("again", importlib.util.find_spec("tide_one") is not None)
!rm -r ~/.local/share/tidehub/packages/0123456789ab-py311 ~/packages-of-former-environment.txt
""",
    )
    assert "found None" in said and "tide-one  # was 1.0" in said and "again True" in said, said


async def test_a_configuration_that_breaks_the_server_locks_nobody_out(alice: User) -> None:
    await told(
        alice,
        "import os\nos.makedirs(os.path.expanduser('~/.jupyter'), exist_ok=True)\n"
        "open(os.path.expanduser('~/.jupyter/jupyter_server_config.py'), 'w').write('raise SystemExit(3)')",
    )
    await alice.stop()
    page = await alice.open(f"hub/spawn/alice?profile={alice.platform.target.profiles[0]}")

    async def refused() -> bool:
        nonlocal page
        if page.status != 500:  # a slow machine shows the page that waits first
            page = await alice.open("hub/spawn-pending/alice")
        return page.status == 500

    await eventually(refused, within=90, saying="the start fails")
    said = html.unescape(page.html)
    assert "exit code 3" in said, said
    assert "Shutting down" not in said, "the words of the server before"
    assert "your own configuration in ~/.jupyter" in said
    await restart(alice, "without_packages=yes")
    assert "mended" in await told(
        alice,
        "import os; os.remove(os.path.expanduser('~/.jupyter/jupyter_server_config.py')); print('mended')",
    )
    await restart(alice)
    assert "42" in await told(alice, "print(6 * 7)")
