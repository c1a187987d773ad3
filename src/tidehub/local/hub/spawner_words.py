"""What users are told about a server that does not start, or that ended: words, and the errors that carry them."""

from __future__ import annotations

from tornado import web

from tidehub.errors import TidehubError
from tidehub.local.isolation import Ending
from tidehub.site.units import format_size

NO_LINES = "(empty log)"


PACKAGES_HINT = (
    " If a package that you installed, or your own configuration in ~/.jupyter, may be the reason, start without your "
    "packages from the home page: that leaves both out."
)


class StartFailed(web.HTTPError):
    """A start that failed, in words for the user who waits.

    An `HTTPError`, because of any other exception the hub shows only that there was one.
    """

    def __init__(self, message: str) -> None:
        super().__init__(500, "%s", message)
        self.jupyterhub_message = message


class MayNotStart(web.HTTPError):
    """The user asked for what others may start, or may start nothing. Words for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(403, "%s", message)
        self.jupyterhub_message = message


class NoRoom(web.HTTPError):
    """The disk has too little room for anything new. Words for the user; 507 is Insufficient Storage (RFC 4918)."""

    status = 507

    def __init__(self, message: str) -> None:
        super().__init__(self.status, "%s", message)
        self.jupyterhub_message = message


def failure_words(error: TidehubError) -> str:
    """What kept a server from starting, in one line for the user who waits."""
    parts = (error.what, f"Expected: {error.expected}" if error.expected else "", error.fix or "")
    return " ".join(f"{part.rstrip('.')}." for part in parts if part)


def memory_words(ending: Ending, limit: int | None) -> str:
    """Tells a user that memory was the reason, with the limit."""
    limit = ending.limit or limit
    size = f" of {format_size(limit)}" if limit else ""
    return (
        f"Your server was stopped because its notebooks together used more than its memory limit{size}. "
        "Your files are kept. Start it again and work on smaller pieces, or use a Dask cluster for large data."
    )


def starting(profile: str, disk_words: str, *, clean_up: bool) -> str:
    """What the page of a start says when the turn of the server has come; `clean_up`: it is for freeing space."""
    if clean_up:
        return f"Starting {profile} so that you can free space: files can be deleted, large ones cannot be written"
    return f"Starting {profile}. {disk_words}" if disk_words else f"Starting {profile}"


def not_started(profile: str, ending: Ending, limit: int | None, tail: str) -> str:
    """Why a server of the profile ended before it answered; `limit`: its memory in bytes; `tail`: its log's end."""
    if ending.out_of_memory:
        return memory_words(ending, limit)
    return (
        f"The server of {profile} did not start: it {ending.words()}. Its log ends with: {tail or NO_LINES}"
    )


def not_answering(profile: str, seconds: float, tail: str) -> str:
    """A server of the profile that runs, and has not answered in all that time."""
    return (
        f"The server of {profile} did not answer within {seconds:.0f} seconds of its start. "
        f"Its log ends with: {tail or NO_LINES}"
    )
