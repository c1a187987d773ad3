"""What is done in the identity provider's own directory beside the provider: always by the directory's owner.

Root asks a process that has become that user (this module, `python -m tidehub.local.identity_files`): the question
comes in by standard input, the answer goes out by standard output, both JSON. Whoever owns the directory answers for
what is in it alone, so the answer is checked like any input.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidehub.errors import TidehubError
from tidehub.local import process
from tidehub.local.places import Places
from tidehub.system.files import os_fault

ANSWER_SECONDS = {"make": 120.0, "save": 120.0, "show": 15.0}
"""Six passwords are hashed at the first start, 0.3 s each on a quiet machine."""
LARGEST_FILE = 64 * 2**20
"""Bytes. Beyond it the provider's directory holds something else than accounts and keys."""
LONGEST_ANSWER = 3 * LARGEST_FILE
"""Characters. Another process of that user could make the answer as long as it likes."""


@dataclass(frozen=True)
class Saved:
    """One file of the provider, for a backup."""

    content: bytes
    mode: int
    uid: int
    gid: int


def make_trial_accounts(
    places: Places, group: str | None, *, admin_group: str | None, assurance: tuple[str, ...]
) -> dict[str, str]:
    """Make the missing demo accounts and return their passwords by name. Raises `TidehubError`.

    See `tidehub.identity.demo_accounts.ensure_demo_accounts`.
    """
    question = {"group": group, "admin_group": admin_group, "assurance": list(assurance)}
    return _passwords(_ask(places, "make", question))


def trial_passwords(places: Places) -> dict[str, str]:
    """The demo passwords by name, if there are any. Raises `TidehubError` for a damaged file."""
    return _passwords(_ask(places, "show", {})) if _owner(places) else {}


def saved_files(places: Places) -> dict[str, Saved]:
    """The provider's files by name, its database as of one moment. Raises `TidehubError`."""
    owner = _owner(places)
    if owner is None:
        return {}
    found = {}
    for name, kept in _object(_ask(places, "save", {})).items():
        try:
            content, mode = base64.b64decode(kept["content"], validate=True), int(kept["mode"])
        except (KeyError, TypeError, ValueError):
            raise _strange(places) from None
        if Path(name).name != name or name in ("", ".", ".."):
            raise _strange(places)
        found[name] = Saved(content, mode & 0o700, *owner)
    return found


def _ask(places: Places, what: str, question: Mapping[str, Any]) -> Any:
    question = {"directory": str(places.identity), "do": what, **question}
    owner = _owner(places)
    if owner is None or owner[0] == os.geteuid():
        return _DO[what](question)
    done = process.run(
        [sys.executable, "-I", "-m", "tidehub.local.identity_files"],
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=Path("/"),
        deadline=ANSWER_SECONDS[what],
        stdin=json.dumps(question),
        most=LONGEST_ANSWER,
        uid=owner[0],
        gid=owner[1],
    )
    try:
        answer = _object(json.loads(done.stdout))
    except ValueError:
        raise _strange(places) from None
    if "error" in answer:
        error = _object(answer["error"])
        raise TidehubError(
            _plain(error.get("what")),
            expected=_plain(error.get("expected")) or None,
            fix=_plain(error.get("fix")) or None,
        )
    return answer.get("answer")


def _owner(places: Places) -> tuple[int, int] | None:
    """Whose the directory is; its parent is the operator's, so the name can be trusted."""
    try:
        found = places.identity.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_fault(error, places.identity, "look into") from error
    if not stat.S_ISDIR(found.st_mode):
        raise TidehubError(f"{places.identity} is not a directory", fix="move it away, then start again")
    return found.st_uid, found.st_gid


def _passwords(answer: Any) -> dict[str, str]:
    return {_plain(name): _plain(password) for name, password in _object(answer).items()}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> str:
    """Text that a terminal may show."""
    text = value if isinstance(value, str) else ""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:2000])


def _strange(places: Places) -> TidehubError:
    return TidehubError(
        f"what the owner of {places.identity} says of its files cannot be read",
        fix="look for other processes of that user; the files themselves may be damaged",
    )


def _make(question: Mapping[str, Any]) -> dict[str, str]:
    from tidehub.identity.accounts import AccountStore
    from tidehub.identity.database import check
    from tidehub.identity.demo_accounts import ensure_demo_accounts

    directory = Path(question["directory"])
    check(directory)
    with AccountStore.open(directory) as store:
        return ensure_demo_accounts(
            store,
            question["group"],
            admin_group=question["admin_group"],
            assurance=tuple(question["assurance"]),
        )


def _show(question: Mapping[str, Any]) -> dict[str, str]:
    from tidehub.identity.demo_accounts import read_demo_passwords

    return read_demo_passwords(Path(question["directory"]))


def _save(question: Mapping[str, Any]) -> dict[str, Any]:
    from tidehub.system import sqlite

    kept = {}
    for path in sorted(Path(question["directory"]).iterdir()):
        found = path.lstat()
        if (
            not stat.S_ISREG(found.st_mode)
            or path.name.endswith(sqlite.WRITTEN_BESIDE)
            or path.name.startswith(".")
        ):
            continue
        if path.name == "identity.json":  # an older version's configuration, made again at every start
            continue
        if found.st_size > LARGEST_FILE:
            raise TidehubError(
                f"{path} holds {found.st_size // 2**20} MiB",
                expected=f"less than {LARGEST_FILE // 2**20} MiB of accounts and keys",
                fix="move it away, then take the backup again",
            )
        content = sqlite.kept(path)
        kept[path.name] = {"content": base64.b64encode(content).decode(), "mode": stat.S_IMODE(found.st_mode)}
    return kept


_DO: dict[str, Callable[[Mapping[str, Any]], Any]] = {"make": _make, "show": _show, "save": _save}


def main() -> int:
    """Answer one question. Faults that a user can act on are answers too."""
    question = json.load(sys.stdin)
    try:
        answer = {"answer": _DO[question["do"]](question)}
    except TidehubError as error:
        where = f"{error.where}: " if error.where else ""
        answer = {"error": {"what": where + error.what, "expected": error.expected, "fix": error.fix}}
    except OSError as error:
        answer = {
            "error": {"what": str(os_fault(error, Path(error.filename or question["directory"]), "use"))}
        }
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
