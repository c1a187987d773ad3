"""Encrypted secrets files, for operators who keep everything in git: age and SOPS, decrypted through pipes only."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tidehub.errors import Place, TidehubError, UsageError
from tidehub.secrets import private_file
from tidehub.secrets.programs import Answer, NotInstalled, TooSlow, ask

DEADLINE = 60.0
"""Seconds. SOPS may ask a key service over the network; age answers at once."""
IDENTITY = "TIDEHUB_AGE_IDENTITY"
_AGE_STARTS = (b"age-encryption.org/v1\n", b"-----BEGIN AGE ENCRYPTED FILE-----")
_AGE_FAULTS = {
    "no identity matched": "the file is not encrypted for this identity",
    "passphrase": "the file is encrypted with a passphrase, which cannot be asked for here",
    "failed to read header": "the file is damaged",
    "malformed": "the file or the identity is damaged",
    "unknown identity type": "the identity file holds no age identity",
    "no identities found": "the identity file holds no age identity",
    "failed to decrypt and authenticate": "the file is damaged",
    "unexpected EOF": "the file is cut off",
}
_SOPS_FAULTS = {
    "flag provided but not defined": "this release is too old to take values from a pipe",
    "metadata not found": "the file holds no SOPS metadata",
    "message authentication failed": "the file was changed after it was encrypted",
    "mac mismatch": "the file was changed after it was encrypted",
    "failed to verify data integrity": "the file was changed after it was encrypted",
    "data key": "none of its keys is at hand",
    "error unmarshalling": "the file is damaged",
}


@dataclass(frozen=True)
class Encrypted:
    """An encrypted secrets file that exists."""

    kind: Literal["age", "sops"]
    path: Path


def encrypted_files(site_file: Path) -> list[Encrypted]:
    """The encrypted secrets files beside a site file: `tidehub.secrets.yaml.age`, `tidehub.secrets.sops.yaml`."""
    candidates = [
        Encrypted("age", site_file.with_name(f"{site_file.stem}.secrets.yaml.age")),
        Encrypted("sops", site_file.with_name(f"{site_file.stem}.secrets.sops.yaml")),
    ]
    return [one for one in candidates if one.path.exists() or one.path.is_symlink()]


def decrypt(one: Encrypted, environ: Mapping[str, str]) -> bytes:
    """The text of an encrypted file, never written anywhere. Raises `UsageError`, `TidehubError`."""
    what = f"the {one.kind} file"
    content = private_file.read(one.path, what, open_to_others=True)
    data = content.data if content else b""
    if one.kind == "age":
        if not data.lstrip().startswith(_AGE_STARTS):
            raise _not_encrypted(one, "age -r RECIPIENT -o")
        identity = age_identity(environ)
        argv, given = ["age", "--decrypt", "--identity", str(identity)], data
    else:
        if b"sops" not in data or b"ENC[" not in data:
            raise _not_encrypted(one, "sops -e -i")
        # By its name, because SOPS chooses nothing by content; the name is not a secret.
        argv, given = ["sops", "--input-type", "yaml", "--output-type", "yaml", "-d", str(one.path)], None
    output = run(one, argv, given, environ, doing="decrypt")
    if len(output) > private_file.LARGEST:
        raise UsageError(f"{what} is too large", where=Place(str(one.path)))
    return output


def starts_armored(path: Path) -> bool:
    """Whether an age file is text."""
    with path.open("rb") as stream:
        return stream.read(64).lstrip().startswith(_AGE_STARTS[1])


def age_identity(environ: Mapping[str, str]) -> Path:
    """The file with the private key: `TIDEHUB_AGE_IDENTITY`, or where tidehub and SOPS look. Raises `UsageError`."""
    chosen = environ.get(IDENTITY, "").strip()
    config = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    candidates = [config / "tidehub" / "age-identity.txt", config / "sops" / "age" / "keys.txt"]
    path = Path(chosen) if chosen else next((one for one in candidates if one.is_file()), None)
    if path is None:
        raise UsageError(
            "no age identity was found to decrypt with",
            expected=f"the file named by {IDENTITY}, or {candidates[0]}",
            fix=f"make one with age-keygen -o {candidates[0]}, and encrypt the secrets file for its public key",
        )
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(
            f"the age identity cannot be read ({error.strerror})",
            where=Place(str(path)),
            fix=f"check {IDENTITY}",
        ) from None
    if not stat.S_ISREG(mode):
        raise UsageError("the age identity is not a regular file", where=Place(str(path)))
    if mode & 0o077:
        raise UsageError(
            f"the age identity can be read by others (mode {stat.S_IMODE(mode):04o})",
            where=Place(str(path)),
            expected="mode 0600",
            fix=f"chmod 600 {path}",
        )
    if not os.access(path, os.R_OK):
        raise UsageError("the age identity cannot be read by you", where=Place(str(path)))
    return path


def run(
    one: Encrypted, argv: list[str], given: bytes | None, environ: Mapping[str, str], *, doing: str
) -> bytes:
    """What age or sops writes when told to `doing` ("decrypt"). Raises `UsageError`, `TidehubError`."""
    try:
        answer = ask(argv, deadline=DEADLINE, given=given, env=environ)
    except NotInstalled:
        how = {
            "age": "apt install age, or https://age-encryption.org",
            "sops": "https://github.com/getsops/sops/releases",
        }[one.kind]
        raise UsageError(
            f"the program {one.kind} is missing, and the secrets are encrypted with it",
            where=Place(str(one.path)),
            fix=f"install it: {how}; or give the secrets by another source",
        ) from None
    except TooSlow:
        raise TidehubError(
            f"{one.kind} took longer than {DEADLINE:.0f} s and was ended",
            where=Place(str(one.path)),
            fix=f"see what it waits for: {_by_hand(one)}",
        ) from None
    if answer.code != 0:
        raise _failed(one, answer, doing)
    return answer.output


def _failed(one: Encrypted, answer: Answer, doing: str) -> TidehubError:
    complaint = answer.complaint.lower()
    faults = _AGE_FAULTS if one.kind == "age" else _SOPS_FAULTS
    why = next(
        (words for sign, words in faults.items() if sign.lower() in complaint), f"exit code {answer.code}"
    )
    return TidehubError(
        f"{one.kind} cannot {doing} the file: {why}",
        where=Place(str(one.path)),
        fix=f"see what it says: {_by_hand(one)}",
    )


def _by_hand(one: Encrypted) -> str:
    if one.kind == "age":
        return f"age -d -i IDENTITY {one.path} > /dev/null"
    return f"sops -d {one.path} > /dev/null"


def _not_encrypted(one: Encrypted, command: str) -> UsageError:
    return UsageError(
        f"the file is not encrypted with {one.kind}, although its name says so",
        where=Place(str(one.path)),
        fix=f"encrypt it: {command} {one.path.name}; if it holds secrets and git has seen it, rotate them all",
    )
