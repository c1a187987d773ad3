"""When notebook servers are stopped by themselves, in the words that pages, `limits` and `plan` share. Pure."""

from __future__ import annotations

from tidehub.site.units import format_duration


def rules(idle_timeout: float, max_age: float) -> list[str]:
    """A line each; none where no server ever is. Seconds; 0 is never."""
    found = []
    if idle_timeout:
        found.append(
            f"A server that is idle for {format_duration(idle_timeout)} is stopped. A running cell keeps it alive, even"
            " while the browser is closed."
        )
    if max_age:
        found.append(f"After {format_duration(max_age)} a server is stopped in any case.")
    return found


def end_words(idle_timeout: float, max_age: float) -> str:
    """The same for the home page; "" where no server ever is stopped."""
    found = rules(idle_timeout, max_age)
    return " ".join([*found, "Files stay."] if found else [])
