"""A backup of a platform at work, the loss of its state, and the way back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest
from real_platform import running_platform
from real_user import login

pytestmark = pytest.mark.real


async def test_users_tokens_and_files_survive_the_loss_of_the_state(tmp_path: Path) -> None:
    file = tmp_path / "backup.tar.gz"
    with running_platform("backup") as platform:
        accounts = platform.accounts
        async with login(platform, "bob") as bob:
            await bob.start("minimal")
            await bob.run(
                "import pathlib; pathlib.Path.home().joinpath('thesis.txt').write_text('chapter one')"
            )
            answer = await bob.call(
                "POST", "hub/api/users/bob/tokens", json={"note": "script", "expires_in": 3600}
            )
            token = str(answer.json()["token"])
            created = (await bob.record())["created"]

            made = platform.command("backup", "--output", str(file), "--json")
            assert made.returncode == 0, made.stderr
            facts = json.loads(made.stdout)
            assert facts["homes"] is True and facts["people"] >= 1
            assert facts["warnings"] == []
            assert file.stat().st_mode & 0o777 == 0o600
            assert (await bob.record())["servers"], "users go on working"
            await bob.run(
                "import pathlib; pathlib.Path.home().joinpath('thesis.txt').write_text('chapter two')"
            )
        refused = platform.command("restore", str(file))
        assert refused.returncode == 1 and "nothing is overwritten" in refused.stderr
        assert platform.down().returncode == 0
        shutil.rmtree(platform.state)

        done = platform.command("restore", str(file))
        assert done.returncode == 0, done.stderr
        last = done.stdout.splitlines()[-1]
        assert last.startswith("Start it with: ") and last.endswith(f" --state {platform.state}")
        assert f"tidehub up --built-in {' '.join(platform.arguments)} " in last, "as it was started"
        platform.up()
        assert platform.accounts == accounts
        status = platform.status()
        assert status["healthy"] and status["servers"] == [] and status["clusters"] == []
        async with httpx.AsyncClient(headers={"Authorization": f"token {token}"}, verify=False) as script:
            answered = await script.get(f"{platform.address}hub/api/user")
        assert answered.status_code == 200 and answered.json()["name"] == "bob", "tokens stay valid"
        async with login(platform, "bob") as bob:
            assert (await bob.record())["created"] == created
            await bob.start("minimal")
            read = await bob.run(
                "import pathlib; print(pathlib.Path.home().joinpath('thesis.txt').read_text())"
            )
            assert read.stdout == "chapter one\n"
            await bob.run(
                "import pathlib; pathlib.Path.home().joinpath('new.txt').write_text('mine to write')"
            )
        for secret in (*accounts.values(), token):
            assert secret not in made.stdout + made.stderr + done.stdout + done.stderr
