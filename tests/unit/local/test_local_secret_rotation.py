from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet, MultiFernet
from jupyterhub import orm
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from tidehub.cli import main
from tidehub.errors import TidehubError, UsageError
from tidehub.local.hub.forget_tokens import forget_tokens
from tidehub.local.places import Places
from tidehub.local.secret_rotation import rotate_in_state, state_secrets
from tidehub.local.secrets import DECLARED, load_secrets, stored_values
from tidehub.local.supervisor.state import Locked, hold
from tidehub.secrets.secret import Secret


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places.of(tmp_path / "state").ensure(other_users=False)
    load_secrets(made.secrets)
    return made


def rotated_ones(places: Places, **how: Any) -> set[str]:
    before = load_secrets(places.secrets)
    rotate_in_state(places, **how)
    after = load_secrets(places.secrets)
    assert stat.S_IMODE(places.secrets.stat().st_mode) == 0o600
    return {name for name in DECLARED if getattr(before, name) != getattr(after, name)}


@pytest.mark.parametrize("name", sorted(set(DECLARED) - {"hub_cookie_secret"}))
def test_each_is_rotated_alone(places: Places, name: str) -> None:
    assert rotated_ones(places, name=name) == {name}


def test_the_cookie_secret_has_its_price(places: Places) -> None:
    with pytest.raises(UsageError, match="everyone logs in again"):
        rotate_in_state(places, "hub_cookie_secret")
    assert rotated_ones(places, name="hub_cookie_secret", accept="logouts") == {"hub_cookie_secret"}


@pytest.mark.parametrize("name", ["hub_crypt_key", "gateway_database_key"])
def test_old_keys_still_decrypt(places: Places, name: str) -> None:
    old = getattr(load_secrets(places.secrets), name)
    rotated = rotate_in_state(places, name)
    secrets = load_secrets(places.secrets)
    assert rotated.old_values == 1
    assert secrets.ring(name)[1] == old
    assert set(secrets.ring(name)) <= set(secrets)  # what is iterated is redacted
    assert old in stored_values(places.secrets)
    rotate_in_state(places, name, forget_old=True)
    assert len(load_secrets(places.secrets).ring(name)) == 1


def test_the_gateways_ring_reads_what_was_encrypted_before(places: Places) -> None:
    token = Fernet(load_secrets(places.secrets).gateway_database_key.reveal()).encrypt(b"a cluster's key")
    rotate_in_state(places, "gateway_database_key")
    ring = MultiFernet(
        [Fernet(key.reveal()) for key in load_secrets(places.secrets).ring("gateway_database_key")]
    )
    assert ring.decrypt(token) == b"a cluster's key"


async def test_the_hubs_ring_reads_what_was_encrypted_before(places: Places) -> None:
    from jupyterhub.crypto import CryptKeeper

    def keeper() -> Any:
        ring = load_secrets(places.secrets).ring("hub_crypt_key")
        return CryptKeeper(keys=[key.reveal() for key in ring], n_threads=1)

    written = await keeper().encrypt({"groups": ["a"]})
    rotate_in_state(places, "hub_crypt_key")
    assert await keeper().decrypt(written) == {"groups": ["a"]}


@pytest.fixture
def running(places: Places) -> Places:
    """Somebody else holds the lock of the state, as `tidehub up` does."""
    code = (
        "import sys; from pathlib import Path; from tidehub.local.supervisor.state import hold\n"
        "with hold(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(places.lock)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    yield places  # type: ignore[misc]
    child.communicate("")


def test_while_a_platform_runs_only_what_is_safe(running: Places) -> None:
    before = running.secrets.read_text()
    for name in ("proxy_auth_token", "gateway_token", "gate_secret", "operator_token"):
        with pytest.raises(TidehubError, match="runs, and its parts share"):
            rotate_in_state(running, name)
    with pytest.raises(TidehubError, match="runs"):
        rotate_in_state(running, "hub_cookie_secret", accept="logouts")
    with pytest.raises(TidehubError, match="runs"):
        rotate_in_state(running, "hub_crypt_key", forget_old=True)
    assert running.secrets.read_text() == before
    assert rotate_in_state(running, "hub_crypt_key").old_values == 1


def test_after_a_crash_users_may_still_use_them(places: Places) -> None:
    places.platform.write_text(
        json.dumps(
            {"version": "0", "state": "running", "pid": 1, "started": 1, "since": "2026-11-22T00:00:00+00:00",
             "address": "http://127.0.0.1:8000/", "parts": []}
        )
    )  # fmt: skip
    from tidehub.local.supervisor.status import platform_status

    if platform_status(places)["state"] != "crashed":
        pytest.fail("this is not how a crashed platform looks any more")
    with pytest.raises(TidehubError, match="may still run"):
        rotate_in_state(places, "gate_secret")


def test_no_start_in_the_middle(places: Places) -> None:
    with hold(places.lock), pytest.raises(TidehubError):
        rotate_in_state(places, "gate_secret")
    with pytest.raises(Locked), hold(places.lock):
        with hold(places.lock):
            pass


def hub_database(places: Places, tokens: dict[str, str]) -> str:
    url = f"sqlite:///{places.hub_database}"
    engine = create_engine(url)
    orm.register_foreign_keys(engine)
    orm.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(orm.OAuthClient(identifier="jupyterhub", secret="", allowed_scopes=[]))
        for service, token in tokens.items():
            found = orm.Service.find(session, service) or orm.Service(name=service)
            session.add(found)
            session.commit()
            orm.APIToken.new(token, service=found, note="from config", generated=False, roles=[])
        session.commit()
    engine.dispose()
    return url


def known_to_the_hub(url: str, token: str) -> bool:
    engine = create_engine(url)
    with Session(engine) as session:
        found = orm.APIToken.find(session, token) is not None
    engine.dispose()
    return found


def test_a_replaced_token_is_not_accepted_any_more(places: Places) -> None:
    secrets = load_secrets(places.secrets)
    old, other = secrets.culler_token.reveal(), secrets.reaper_token.reveal()
    url = hub_database(places, {"culler": old, "reaper": other})
    assert known_to_the_hub(url, old)
    rotate_in_state(places, "culler_token")
    assert not known_to_the_hub(url, old)
    assert known_to_the_hub(url, other)


def test_a_database_that_cannot_be_changed_leaves_the_secret(places: Places) -> None:
    places.hub_database.write_text("this is no database, and it is longer than a header of one would be" * 20)
    before = places.secrets.read_text()
    with pytest.raises(TidehubError, match="hub's database cannot be changed"):
        rotate_in_state(places, "culler_token")
    assert places.secrets.read_text() == before


def test_a_databases_password_is_in_no_message() -> None:
    with pytest.raises(TidehubError) as refused:
        forget_tokens("postgresql://hub:open-sesame@127.0.0.1:1/hub", [Secret("x" * 20)])
    assert "sesame" not in str(refused.value)


def test_what_the_commands_say(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    values = [value.reveal() for value in load_secrets(places.secrets)]
    assert main.run(["secrets", "rotate", "hub_crypt_key", "--state", str(places.state)]) == 0
    assert main.run(["secrets", "rotate", "culler_token", "--state", str(places.state)]) == 0
    told = capsys.readouterr().out
    assert main.run(["secrets", "rotate", "hub_cookie_secret", "--state", str(places.state)]) == 2
    hint = f"tidehub secrets rotate hub_cookie_secret --state {places.state} --accept logouts\n"
    assert capsys.readouterr().err.endswith(hint)
    assert main.run(["secrets", "show", "--state", str(places.state)]) == 0
    assert main.run(["secrets", "show", "--state", str(places.state), "--json"]) == 0
    values += [value.reveal() for value in load_secrets(places.secrets)]
    told += capsys.readouterr().out
    assert "the next start of the platform uses it (hub, culler)" in told
    assert "hub_crypt_key         set in secrets.json, less than a minute old, 1 older behind it" in told
    assert not any(value in told for value in values)
    assert len(state_secrets(places)) == len(DECLARED)


def test_a_file_of_an_older_tidehub_is_understood(places: Places) -> None:
    stored = json.loads(places.secrets.read_text())
    del stored["made"], stored["culler_token"]
    places.secrets.write_text(json.dumps(stored))
    secrets = load_secrets(places.secrets)
    assert secrets.operator_token.reveal() == stored["operator_token"]
    made = {one.declared.name: one.made for one in state_secrets(places)}
    assert made["operator_token"] is None
    assert made["culler_token"] is not None
