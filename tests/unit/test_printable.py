from __future__ import annotations

import io

import pytest

from tidehub.cli.console import print_lines
from tidehub.printable import printable, without_colors


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünï 日本 👩\u200d🔬 a\u00a0b", "plain, ünï 日本 👩\u200d🔬 a\u00a0b"),
        ("\x1b]0;owned\x07\x1b[2J", "\\x1b]0;owned\\x07\\x1b[2J"),
        ("a\rb\x08\x7f\x9b31m\x85", "a\\x0db\\x08\\x7f\\x9b31m\\x85"),
        ("\u202egnp.exe\u2066\u2069\u200f\u061c\u2028", "\\u202egnp.exe\\u2066\\u2069\\u200f\\u061c\\u2028"),
        ("\ud800\U000e0041\ufeff", "\\ud800\\U000e0041\\ufeff"),
        (b"\xff\x1b ok \xc3\xa4", "\\xff\\x1b ok ä"),
        ("tab\tstays\nline too", "tab\tstays\nline too"),
    ],
)  # fmt: skip
def test_control_characters_are_shown_as_text(text: str | bytes, shown: str) -> None:
    assert printable(text) == shown


def test_no_control_character_gets_through() -> None:
    every = "".join(map(chr, range(0x110000)))
    left = printable(every, lines=False)
    assert not [char for char in left if ord(char) < 0x20 and char != "\t"]
    assert not [char for char in left if 0x7F <= ord(char) < 0xA0 or 0x202A <= ord(char) <= 0x202E]
    assert printable("one\nforged", lines=False) == "one\\nforged"


def test_what_is_printed_is_printable_and_never_lost() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_lines(["user \x1b[31mroot\x1b[0m", "ünï \ud800", "last"], stream)
    assert raw.getvalue() == b"user \\x1b[31mroot\\x1b[0m\n\\xfcn\\xef \\ud800\nlast\n"


def test_colors_alone_are_left_out() -> None:
    assert without_colors("\x1b[33m[W]\x1b[0m slow \x1b[2Jthere") == "[W] slow \x1b[2Jthere"
