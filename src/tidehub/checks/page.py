"""What a page says: its forms, its links, and the words with which it refuses (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = frozenset(
    (
        "area",
        "base",
        "br",
        "col",
        "embed",
        "hr",
        "img",
        "input",
        "link",
        "meta",
        "param",
        "source",
        "track",
        "wbr",
    )
)
_MUTE = frozenset(("script", "style", "template", "noscript"))
_BREAKS = frozenset(("p", "div", "li", "br", "h1", "h2", "h3", "h4", "tr", "section"))
_LONGEST = 600


@dataclass
class Field:
    """An input of a form. `checked` matters for radio buttons and check boxes."""

    name: str
    value: str
    kind: str
    checked: bool = False


@dataclass
class Form:
    """A form as the browser would send it."""

    action: str
    method: str
    multipart: bool
    fields: list[Field] = field(default_factory=list)

    def values(self) -> dict[str, str]:
        """What is sent when a user changes nothing."""
        return {
            each.name: each.value
            for each in self.fields
            if each.name and (each.kind not in ("radio", "checkbox") or each.checked)
        }

    def of_kind(self, kind: str) -> list[Field]:
        """The inputs of one kind, such as `password` or `radio`."""
        return [each for each in self.fields if each.kind == kind]


@dataclass
class Contents:
    """What was read from one page."""

    title: str = ""
    forms: list[Form] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)

    @property
    def words(self) -> str:
        """Why the page refuses: its error or alert text, else its heading, else its title."""
        said = list(dict.fromkeys(text for text in self.alerts if text))
        return "; ".join(said or self.headings[:1] or [self.title])[:_LONGEST]


def read_page(html: str) -> Contents:
    """Reads forms, links, alerts and headings of a page."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.contents


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.contents = Contents()
        self._open: list[tuple[str, str]] = []
        self._texts: dict[int, tuple[str, list[str]]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._collect_form(tag, given)
        if tag == "a" and given.get("href"):
            self.contents.links.append(given["href"])
        if tag in _BREAKS:
            self._say("\n")
        if tag in _VOID:
            return
        self._open.append((tag, _role(tag, given)))
        if self._open[-1][1] in ("alert", "heading", "title"):
            self._texts[len(self._open)] = (self._open[-1][1], [])

    def handle_endtag(self, tag: str) -> None:
        if tag not in (name for name, _ in self._open):
            return
        while self._open:
            depth = len(self._open)
            name, _ = self._open.pop()
            if depth in self._texts:
                self._keep(*self._texts.pop(depth))
            if name == tag:
                break
        if tag in _BREAKS:
            self._say("\n")

    def handle_data(self, data: str) -> None:
        if not any(name in _MUTE or role == "hidden" for name, role in self._open):
            self._say(data)

    def _say(self, text: str) -> None:
        for _, parts in self._texts.values():
            parts.append(text)

    def _keep(self, kind: str, parts: list[str]) -> None:
        pieces = (" ".join(line.split()) for line in "".join(parts).split("\n"))
        text = " ".join(piece for piece in pieces if piece)
        if kind == "alert":
            self.contents.alerts.append(text)
        elif kind == "heading":
            self.contents.headings.append(text)
        else:
            self.contents.title = text

    def _collect_form(self, tag: str, given: dict[str, str]) -> None:
        if tag == "form":
            self.contents.forms.append(
                Form(
                    action=given.get("action", ""),
                    method=given.get("method", "get").lower(),
                    multipart=given.get("enctype", "").lower() == "multipart/form-data",
                )
            )
        elif tag == "input" and self.contents.forms:
            self.contents.forms[-1].fields.append(
                Field(
                    name=given.get("name", ""),
                    value=given.get("value", "on" if given.get("type") in ("radio", "checkbox") else ""),
                    kind=given.get("type", "text").lower(),
                    checked="checked" in given,
                )
            )


def _role(tag: str, given: dict[str, str]) -> str:
    classes = set(given.get("class", "").split())
    if "hidden" in given or classes & {"hidden", "modal", "visually-hidden"}:
        return "hidden"
    if given.get("role") == "alert" or classes & {"error", "alert", "login_error"}:
        return "alert"
    if tag in ("h1", "h2"):
        return "heading"
    return "title" if tag == "title" else ""
