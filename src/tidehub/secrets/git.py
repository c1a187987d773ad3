"""What git knows of a secrets file: whether it tracks it, and that it will not."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tidehub.errors import Place, TidehubError, UsageError
from tidehub.secrets.programs import Answer, NotInstalled, TooSlow, ask

_DEADLINE = 15.0


def refuse_tracked(path: Path) -> None:
    """Raise `UsageError` when git tracks the file, or the file behind a symbolic link. No git, nothing tracked."""
    for one in {path.absolute(), path.resolve()}:
        answer = _git(one.parent, "ls-files", "--error-unmatch", "--", _literal(one.name))
        if answer is not None and answer.code == 0:
            raise UsageError(
                "git tracks the secrets file",
                where=Place(str(one)),
                expected="a file that never enters a repository",
                fix=f"git rm --cached {one.name}; commit that; then rotate every secret it holds, because the history "
                "keeps them. To have secrets in git, encrypt the file with age or sops",
            )


def ensure_ignored(path: Path, *, later: bool = False) -> Path | None:
    """Let git ignore the file; returns the `.gitignore` that was changed, None when nothing had to be.

    The entry goes into the `.gitignore` beside the file, or into the repository's own when only that exists. With
    `later` it is written also where there is no repository yet, or no git: for the one that may come.
    Raises `TidehubError` when it cannot be written, or is undone by another rule.
    """
    path = path.resolve() if path.is_symlink() else path.absolute()
    top = _top(path.parent)
    beside = path.parent / ".gitignore"
    if top is None:
        return _add(beside, path) if later and not _says(beside, path) else None
    if _is_ignored(path):
        return None
    at_top = top / ".gitignore"
    chosen = _add(at_top if at_top.is_file() and not beside.exists() else beside, path)
    if not _is_ignored(path):
        raise TidehubError(
            f"git does not ignore {path.name}, although {chosen} says so",
            fix="remove the rule that takes it back: git check-ignore -v --no-index " + path.name,
        )
    return chosen


def _pattern(gitignore: Path, path: Path) -> str:
    return "/" + "/".join(_literal_pattern(part) for part in path.relative_to(gitignore.parent).parts)


def _says(gitignore: Path, path: Path) -> bool:
    """Whether it has the line already, as far as can be told without git."""
    try:
        return _pattern(gitignore, path).encode() in gitignore.read_bytes().split(b"\n")
    except OSError:
        return False


def _add(gitignore: Path, path: Path) -> Path:
    pattern = _pattern(gitignore, path)
    folder, _, name = pattern.rpartition("/")
    if gitignore.is_symlink():
        raise TidehubError(
            "git does not read a .gitignore that is a symbolic link",
            where=Place(str(gitignore)),
            fix=f"make it a file with the line {pattern}",
        )
    try:
        before = gitignore.read_bytes() if gitignore.exists() else b""
        # What is half-written after a power cut has the second name.
        lines = f"# Secrets of tidehub\n{pattern}\n{folder}/.{name}.*.part\n".encode()
        gap = b"" if not before or before.endswith(b"\n") else b"\n"
        with gitignore.open("ab") as stream:
            stream.write(gap + lines)
    except OSError as error:
        raise TidehubError(
            f"cannot write {gitignore}: {error.strerror}",
            fix=f"add this line to it yourself: {pattern}",
        ) from None
    return gitignore


def _top(directory: Path) -> Path | None:
    answer = _git(directory, "rev-parse", "--show-toplevel")
    if answer is None or answer.code != 0:
        return None
    return Path(os.fsdecode(answer.output.removesuffix(b"\n"))).resolve()


def _is_ignored(path: Path) -> bool:
    answer = _git(path.parent, "check-ignore", "--quiet", "--no-index", "--", str(path))
    return answer is not None and answer.code == 0


def _git(directory: Path, *words: str) -> Answer | None:
    # A hook or an alias around us may have set GIT_DIR and the like: the file's own directory decides.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # Asking is harmless whoever owns the repository, once nothing that it configures is run.
    safely = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]
    try:
        return ask(
            ["git", *safely, "-C", str(directory), *words], deadline=_DEADLINE, env={**env, "LC_ALL": "C"}
        )
    except (NotInstalled, TooSlow):
        return None


def _literal(name: str) -> str:
    """A name as a pathspec that means nothing but itself."""
    return f":(literal){name}"


def _literal_pattern(name: str) -> str:
    """A name in a `.gitignore` (gitignore(5): backslash before what has a meaning)."""
    return re.sub(r"([\\*?\[\]!# ])", r"\\\1", name)
