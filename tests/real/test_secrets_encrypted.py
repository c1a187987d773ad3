"""Encrypted secrets files with the real age and, where it is installed, the real sops.

Each program is wrapped: what it was started with and what it could see of our environment is written down.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tidehub.errors import TidehubError, UsageError
from tidehub.secrets import encrypted
from tidehub.secrets.changes import create, rotate
from tidehub.secrets.declared import BY_NAME
from tidehub.secrets.secret import Secret
from tidehub.secrets.site_secrets import SecretsError, require
from tidehub.secrets.sources import resolve

HEX = "8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92"
CLIENT = "Zq7-private-Xw93-client"
PLAIN = f"# of the coast\nclient_secret: {CLIENT}\nhub_crypt_key: {HEX}\n"
WANTED = [BY_NAME[name] for name in ("client_secret", "hub_crypt_key", "gateway_token")]


REAL = {name: shutil.which(name) for name in ("age", "age-keygen", "sops")}


def program(name: str) -> str:
    found = REAL[name]
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


class Desk:
    """A site whose secrets are encrypted, and programs that tell what they were given."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.site = directory / "tidehub.yaml"
        self.site.write_text("")
        self.seen = directory / "seen"
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.identity = directory / "identity.txt"
        subprocess.run([program("age-keygen"), "-o", self.identity], check=True, capture_output=True)
        self.recipient = subprocess.run(
            [program("age-keygen"), "-y", self.identity], check=True, capture_output=True, text=True
        ).stdout.strip()
        self.environ = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(directory),
            "TMPDIR": str(directory / "tmp"),
            "TIDEHUB_AGE_IDENTITY": str(self.identity),
            "SOPS_AGE_KEY_FILE": str(self.identity),
            "TIDEHUB_SECRET_PROXY_AUTH_TOKEN": HEX[::-1],
        }
        (directory / "tmp").mkdir()

    def wrap(self, name: str) -> None:
        wrapper = self.bin / name
        wrapper.write_text(
            f"#!/bin/sh\ntr '\\0' ' ' < /proc/$$/cmdline >> {self.seen}\nenv >> {self.seen}\n"
            f'exec {program(name)} "$@"\n'
        )
        wrapper.chmod(0o755)

    def age(self, text: str = PLAIN, *options: str) -> Path:
        self.wrap("age")
        path = self.directory / "tidehub.secrets.yaml.age"
        argv = [program("age"), *options, "-r", self.recipient, "-o", path]
        subprocess.run(argv, input=text.encode(), check=True, capture_output=True)
        return path

    def sops(self, text: str = PLAIN) -> Path:
        self.wrap("sops")
        path = self.directory / "tidehub.secrets.sops.yaml"
        argv = [program("sops"), "--input-type", "yaml", "--output-type", "yaml", "-e", "/dev/stdin"]
        env = {**self.environ, "SOPS_AGE_RECIPIENTS": self.recipient}
        done = subprocess.run(argv, input=text.encode(), check=True, capture_output=True, env=env)
        path.write_bytes(done.stdout)
        return path

    def decrypted(self, path: Path) -> str:
        argv = (
            [program("age"), "-d", "-i", self.identity, path]
            if path.suffix == ".age"
            else [program("sops"), "-d", path]
        )
        return subprocess.run(argv, check=True, capture_output=True, text=True, env=self.environ).stdout

    def values(self) -> dict[str, list[str]]:
        resolved = resolve(self.site, self.environ)
        assert resolved.problems == []
        return {name: [value.reveal() for value in found.values] for name, found in resolved.found.items()}

    def said(self) -> str:
        return "\n".join(map(str, resolve(self.site, self.environ).problems))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk(tmp_path)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.mark.parametrize("kind", ["age", "age, armored", "sops"])
def test_read_without_a_trace(desk: Desk, kind: str) -> None:
    path = desk.sops() if kind == "sops" else desk.age(PLAIN, *(["-a"] if "armored" in kind else []))
    resolved = resolve(desk.site, desk.environ)
    assert resolved.problems == []
    found = resolved.found["client_secret"]
    assert found.value == Secret(CLIENT)
    assert found.kind == kind[: len(found.kind)]
    assert path.name in found.place
    assert require(desk.site, "client_secret", desk.environ) == Secret(CLIENT)
    _nothing_leaked(desk)


def _nothing_leaked(desk: Desk) -> None:
    told = desk.seen.read_text()
    assert "/bin/sh" in told, "the wrapper ran"
    values = [CLIENT, HEX, HEX[::-1], *(value for values in desk.values().values() for value in values)]
    assert not any(value in told for value in values), "a program was given a secret as argument or variable"
    for path in desk.directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(value.encode() in content for value in values), f"{path} holds a secret in clear"


@pytest.mark.parametrize("kind", ["age", "sops"])
def test_made_and_rotated_inside(desk: Desk, kind: str) -> None:
    path = desk.age(PLAIN, "-a") if kind == "age" else desk.sops()
    path.chmod(0o644)
    (desk.directory / "tidehub.secrets.recipients").write_text(f"# us\n{desk.recipient}\n")
    created = create(desk.site, WANTED, desk.environ)
    assert (created.file, created.made) == (path, ("gateway_token",))
    rotated = rotate(desk.site, "hub_crypt_key", desk.environ)
    assert rotated.old_values == 1
    values = desk.values()
    assert values["client_secret"] == [CLIENT]
    assert values["hub_crypt_key"][1:] == [HEX]
    assert resolve(desk.site, desk.environ).found["gateway_token"].made is not None
    assert "# of the coast" in desk.decrypted(path)
    assert path.stat().st_mode & 0o777 == 0o644
    _nothing_leaked(desk)


def test_age_does_not_tell_for_whom_it_encrypts(desk: Desk) -> None:
    path = desk.age()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="the recipients of the age file are not known"):
        create(desk.site, WANTED, desk.environ)
    assert path.read_bytes() == before


def test_what_stands_in_the_clear_file_comes_first(desk: Desk) -> None:
    desk.age()
    plain = desk.directory / "tidehub.secrets.yaml"
    plain.write_text("client_secret: a-clear-Value-9\n")
    plain.chmod(0o600)
    assert require(desk.site, "client_secret", desk.environ) == Secret("a-clear-Value-9")
    assert not desk.seen.exists(), "nothing had to be decrypted"
    resolved = resolve(desk.site, desk.environ)
    assert [found.place for found in resolved.shadowed] == ["tidehub.secrets.yaml.age:2"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda desk, path: path.write_bytes(path.read_bytes()[:-30]), "age cannot decrypt"),
        (lambda desk, path: path.write_bytes(b""), "not encrypted with age"),
        (lambda desk, path: path.write_text(PLAIN), "not encrypted with age"),
        (
            lambda desk, path: path.write_bytes(path.read_bytes().replace(b"X25519", b"X25518")),
            "age cannot decrypt",
        ),
        (lambda desk, path: desk.identity.write_text("nonsense\n"), "age cannot decrypt"),
        (lambda desk, path: desk.identity.chmod(0o644), "chmod 600"),
        (lambda desk, path: desk.identity.unlink(), "cannot be read"),
        (lambda desk, path: desk.environ.update(TIDEHUB_AGE_IDENTITY=""), "no age identity"),
        (lambda desk, path: desk.environ.update(PATH="/nonexistent"), "apt install age"),
        (lambda desk, path: path.chmod(0o000), "cannot be read"),
    ],
)
def test_age_files_that_cannot_be_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, spoil: object, words: str
) -> None:
    path = desk.age()
    spoil(desk, path)  # type: ignore[operator]
    monkeypatch.setenv("PATH", desk.environ["PATH"])
    if os.geteuid() == 0 and path.stat().st_mode & 0o777 == 0:
        pytest.skip("root reads everything")
    said = desk.said()
    assert words in said
    assert CLIENT not in said
    with pytest.raises((SecretsError, TidehubError)):
        require(desk.site, "client_secret", desk.environ)


def test_a_file_for_somebody_else(desk: Desk) -> None:
    desk.age()
    other = desk.directory / "other.txt"
    subprocess.run([program("age-keygen"), "-o", other], check=True, capture_output=True)
    desk.environ["TIDEHUB_AGE_IDENTITY"] = str(other)
    assert "not encrypted for this identity" in desk.said()


def test_a_mistake_inside_is_said_with_its_line_and_without_its_value(desk: Desk) -> None:
    desk.age(f"client_secet: {CLIENT}\nhub_crypt_key: {CLIENT}\n")
    said = desk.said()
    assert "tidehub.secrets.yaml.age (decrypted):1:1" in said
    assert "did you mean client_secret?" in said
    assert CLIENT not in said


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("data:", "data:AAAA", "changed after it was encrypted"),
        ("sops:", "spos:", "not encrypted with sops"),
        ("enc: |", "enc: >", "cannot decrypt"),
        ("ENC[", "enc[", "not encrypted with sops"),
    ],
)
def test_sops_files_that_cannot_be_read(desk: Desk, old: str, new: str, words: str) -> None:
    path = desk.sops()
    path.write_text(path.read_text().replace(old, new))
    said = desk.said()
    assert words in said
    assert CLIENT not in said


def test_sops_without_a_key(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.sops()
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", "/nonexistent")
    desk.environ["SOPS_AGE_KEY_FILE"] = "/nonexistent"
    assert "none of its keys is at hand" in desk.said()


def test_a_program_that_hangs_is_ended(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.age()
    (desk.bin / "age").write_text(f"#!/bin/sh\necho $$ > {desk.directory}/pid\nexec sleep 600\n")
    monkeypatch.setattr(encrypted, "DEADLINE", 1.0)
    said = desk.said()
    assert "took longer than 1 s" in said
    pid = int((desk.directory / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_a_program_that_talks_does_not_get_its_words_into_a_message(desk: Desk) -> None:
    desk.age()
    (desk.bin / "age").write_text(f"#!/bin/sh\necho 'error: {CLIENT}' >&2\necho {CLIENT}\nexit 3\n")
    said = desk.said()
    assert "exit code 3" in said
    assert CLIENT not in said


def test_a_program_that_gives_too_much(desk: Desk) -> None:
    desk.age()
    (desk.bin / "age").write_text("#!/bin/sh\nhead -c 20000000 /dev/zero\n")
    assert "too large" in desk.said()
