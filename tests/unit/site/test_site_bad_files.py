"""Files that are no site files, and nearly are: refused in words and soon, whatever is in them."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tidehub.site.presets import NAMES, text_of
from tidehub.site.problems import SiteError
from tidehub.site.reading.load import load, load_text
from tidehub.site.reading.recovery import MOST_ERRORS, read_all
from tidehub.site.reading.sources import path_of_variable
from tidehub.site.units import (
    QuantityError,
    format_duration,
    format_size,
    parse_cores,
    parse_duration,
    parse_size,
)

SLOWEST = 20.0
"""Seconds of processor time that no file may take; most take milliseconds. A hang takes for ever."""


@contextmanager
def soon() -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < SLOWEST


def refused(text: str) -> str:
    with soon(), pytest.raises(SiteError) as caught:
        load_text(text, "site.yaml", environ={})
    assert caught.value.problems
    return str(caught.value)


MIB = 2**20
GOOD = text_of("protocoast")
NESTED = "a:\n" + "".join(f"{' ' * depth}a:\n" for depth in range(1, 200))
LARGE = {
    "one long key": "k" * 19_000 + ": 1\n",
    "one long line": "a: " + "x" * MIB,
    "a list in brackets": "a: [" + "1, " * 6000 + "]\n",
    "many short lines": "- 1\n" * 100_000,
    "many keys": "".join(f"k{number}: 1\n" for number in range(60_000)),
    "one key again and again": "k: 1\n" * 60_000,
    "many anchors": "".join(f"k{number}: &a{number} 1\n" for number in range(40_000)),
    "many unknown aliases": "".join(f"k{number}: *a{number}\n" for number in range(40_000)),
    "many tags": "".join(f"k{number}: !t{number} 1\n" for number in range(40_000)),
    "open quotes": "'\n" * 100_000,
    "open brackets on their lines": "[\n" * 100_000,
    "open braces on one line": "{" * 19_000,
    "closing brackets": "]" * 19_000,
    "dashes on one line": "- " * 9_000,
    "question marks": "? " * 9_000,
    "colons": ": " * 9_000,
    "tabs": "\t\n" * 100_000,
    "only carriage returns": "a: 1\r" * 50_000,
    "document starts": "---\n" * 50_000,
    "directives": "%YAML 1.2\n" * 50_000,
    "a folded text": "a: >\n" + "  x\n" * 200_000,
    "comments": "#\n" * 300_000,
    "deep blocks": NESTED,
    "deep flow": "a: " + "{a: " * 3000,
    "deep lists": "- " * 60 + "x\n",
    "digits": "a: " + "9" * 19_000,
    "an exponent": "site: {name: 1e999999999}\n",
    "spaces": " " * 19_000 + "a: 1\n",
    "escapes": 'a: "' + "\\x41" * 4000 + '"\n',
    "a wrong escape": 'a: "\\q"\n',
    "a surrogate": 'a: "\\ud800"\n',
}


@pytest.mark.parametrize("name", LARGE)
def test_large_and_strange_files_are_refused_soon(name: str) -> None:
    said = refused(LARGE[name])
    assert said.count("\n") < 250
    assert len(said) < 200_000


def bomb(depth: int, width: int) -> str:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("depth", "width"), [(4, 30), (12, 10), (30, 2), (39, 9)])
def test_alias_bombs_never_go_off(depth: int, width: int) -> None:
    assert "more than 20000 values" in refused(bomb(depth, width))


def test_merge_bombs_never_go_off() -> None:
    keys = ", ".join(f"k{number}: 1" for number in range(500))
    lines = [f"m0: &m0 {{{keys}}}"]
    lines += [f"m{n}: &m{n} {{<<: *m{n - 1}, x{n}: *m{n - 1}}}" for n in range(1, 30)]
    assert "more than 20000 values" in refused("\n".join(lines))


def test_a_syntax_error_on_every_line_ends() -> None:
    text = "site:\n" + "".join(f"  k{number}: @\n" for number in range(2000))
    said = refused(text)
    assert said.count("cannot start a value") == MOST_ERRORS


@pytest.mark.parametrize("size", [MIB + 1, 5 * MIB, 50 * MIB])
def test_files_over_a_mebibyte_are_refused_in_words(tmp_path: Path, size: int) -> None:
    path = tmp_path / "site.yaml"
    with path.open("wb") as file:
        file.truncate(size)
    with soon(), pytest.raises(SiteError, match="larger than 1 MiB"):
        load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff", "not UTF-8"),
        (b"site:\n  name: \xe9t\xe9\n", ":2:9: the byte 0xe9 is not UTF-8"),
        ("site: {}".encode("utf-16-le"), "not allowed in YAML"),
        ("site: {}".encode("utf-16"), "UTF-16"),
        ("site: {}".encode("utf-32"), "UTF-16"),
        (b"\x00", "not allowed"),
        (b"PK\x03\x04zip", "this is an archive"),
        (b"\x1f\x8b\x08gzip", "this is an archive"),
        (b"\x7fELF\x02\x01\x01\x00", "not allowed"),
        (b"\xef\xbb\xbf", "empty"),
        (b"", "empty"),
        (b"\r\n\r\n", "empty"),
        (b"<html></html>", "not a site file"),
        (b"#!/bin/sh\necho hi\n", "not a site file"),
        (b"[site]\nname = x\n", "site.yaml"),
        (b"-----BEGIN PRIVATE KEY-----\nabc\n", "site.yaml"),
    ],
)
def test_other_files_given_by_mistake(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(content)
    with soon(), pytest.raises(SiteError) as caught:
        load(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
def test_line_ends_of_other_systems_keep_the_places(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(GOOD.replace("max_workers: 3", "max_workers: three").replace("\n", ending).encode())
    with pytest.raises(SiteError) as caught:
        load(path)
    (problem, *_) = [one for one in caught.value.problems if one.severity == "error"]
    line = next(number for number, text in enumerate(GOOD.splitlines(), 1) if "max_workers: 3" in text)
    assert problem.where is not None
    assert problem.where.line == line


def test_links_are_followed_and_dead_ones_said(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(GOOD)
    (tmp_path / "one.yaml").symlink_to("real.yaml")
    (tmp_path / "two.yaml").symlink_to("one.yaml")
    assert load(tmp_path / "two.yaml").site.site.name == "ProtoCoast"
    (tmp_path / "dead.yaml").symlink_to("gone.yaml")
    with pytest.raises(SiteError, match="the file does not exist"):
        load(tmp_path / "dead.yaml")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SiteError, match="cannot be read"):
        load(tmp_path / "loop")


@pytest.mark.root
def test_a_file_of_somebody_else_is_said(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(GOOD)
    path.chmod(0o600)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and parent.is_relative_to("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    os.seteuid(65534)
    try:
        with pytest.raises(SiteError, match="Permission denied"):
            load(path)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/tty", "/proc/self/mem", "/"])
def test_what_is_no_file(device: str) -> None:
    with soon(), pytest.raises(SiteError):
        load(device)


def test_validating_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    for text in (GOOD, GOOD.replace("limit", "limt"), "\t"):
        path.write_text(text)
        before = path.stat().st_mtime_ns
        try:
            load(path)
        except SiteError:
            pass
        assert (path.stat().st_mtime_ns, [one.name for one in tmp_path.iterdir()]) == (before, ["site.yaml"])


# --- mutations by chance, with a fixed seed so that a failure can be seen again ---------------------------------


def mutants(count: int) -> Iterator[str]:
    chance = random.Random(3)
    lines = GOOD.splitlines(keepends=True)
    signs = [*":-[]{}'\"#&*!|>%@`?,\t \n", "  ", ": ", "- ", "null", "<<: ", "---\n", "é", "\x00", "5", "GiB"]
    for _ in range(count):
        text = list(lines)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(text))
            match chance.randrange(6):
                case 0:
                    del text[place]
                case 1:
                    text.insert(place, text[chance.randrange(len(text))])
                case 2:
                    text[place] = " " * chance.randrange(5) + text[place]
                case 3:
                    text[place] = text[place].lstrip()
                case _:
                    line = text[place]
                    at = chance.randrange(len(line) + 1)
                    text[place] = line[:at] + chance.choice(signs) + line[at + chance.randrange(2) :]
        yield "".join(text)


@pytest.mark.parametrize("part", range(10))
def test_mutants_end_in_words_or_a_site(part: int) -> None:
    for number, text in enumerate(mutants(200)):
        if number % 10 != part:
            continue
        try:
            load_text(text, "site.yaml", environ={})
        except SiteError as error:
            assert error.problems
            assert all(problem.what and problem.where is not None for problem in error.problems)
            lines = text.count("\n") + 2
            assert all(problem.where.line <= lines for problem in error.problems if problem.where)
            assert "pydantic" not in str(error)


# --- properties ---------------------------------------------------------------------------------------------


@given(st.text(max_size=300))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200)
def test_any_text_is_read_to_an_end(text: str) -> None:
    root, problems, broken = read_all(text, "x")
    assert problems or not broken
    assert problems or root is not None or not holds_text(text)


def holds_text(text: str) -> bool:
    """Whether something is written in a text that holds no node, such as `---`: then it counts as empty."""
    return any(line.strip() and line.lstrip()[0] not in "#-.%" for line in text.splitlines())


@given(
    st.sampled_from(GOOD.splitlines()),
    st.sampled_from(["\t", "@", "'", '"', "[", "{", ": :", "- -", "*x", "&", "%", "|", "!!x y"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_one_broken_line_leaves_the_other_sections_readable(line: str, put: str) -> None:
    text = GOOD.replace(line, line[: len(line) // 2] + put + line[len(line) // 2 :], 1)
    text = text.replace("infrastructure:", "infrastructure:\n  nonsense: 1", 1)
    try:
        load_text(text, "x", environ={})
    except SiteError as error:
        assert all(problem.where is not None for problem in error.problems)
        if "infrastructure" not in line and "nonsense" in text and len(error.problems) == 1:
            assert error.problems[0].key in ("infrastructure.nonsense", "") or error.problems[0].path


@given(st.integers(0, 2**63 - 1))
def test_sizes_survive_writing_and_reading(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 3650 * 86400 * 1000))
def test_durations_survive_writing_and_reading(thousandths: int) -> None:
    assert parse_duration(format_duration(thousandths / 1000)) == thousandths / 1000


@given(st.integers(0, 4096 * 1000))
def test_cores_survive_writing_and_reading(thousandths: int) -> None:
    assert parse_cores(f"{thousandths}m") == thousandths / 1000
    assert parse_cores(thousandths / 1000) == thousandths / 1000


@given(st.text(max_size=80))
@settings(max_examples=300)
def test_no_text_makes_a_quantity_fail_otherwise(text: str) -> None:
    for parse in (parse_size, parse_duration, parse_cores):
        try:
            assert parse(text) >= 0
        except QuantityError as error:
            assert error.what and error.expected


@given(st.integers(1, 10**6), st.sampled_from(["KiB", "MiB", "GiB", "TiB", "kB", "MB", "GB", "TB"]))
def test_a_size_with_its_bytes_beside_it_is_never_guessed(count: int, unit: str) -> None:
    size = parse_size(f"{count} {unit}")
    with pytest.raises(QuantityError) as caught:
        parse_size(f"{count} {unit} ({size:,} bytes)")
    assert parse_size(str(caught.value.fix).removeprefix("write ")) == size
    with pytest.raises(QuantityError) as caught:
        parse_size(f"{count} {unit} ({size + 1:,} bytes)")
    assert f"{size:,}" in caught.value.what
    assert f"{size + 1:,}" in caught.value.what


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_", max_size=40), st.text(max_size=30))
@example(name="9223372036854775808", value="")
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_no_variable_makes_the_loader_fail_otherwise(name: str, value: str) -> None:
    path_of_variable(f"TIDEHUB__{name}")
    try:
        load_text(GOOD, "x", environ={f"TIDEHUB__{name}": value})
    except SiteError as error:
        assert any(f"TIDEHUB__{name}" in str(problem) for problem in error.problems)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_with_any_line_removed(name: str) -> None:
    lines = text_of(name).splitlines(keepends=True)
    for index in range(len(lines)):
        try:
            load_text("".join(lines[:index] + lines[index + 1 :]), "x", environ={})
        except SiteError as error:
            assert all(problem.where is not None for problem in error.problems)


def test_the_limit_of_recursion_is_never_met() -> None:
    deep = "a: " + "[" * (sys.getrecursionlimit() + 10)
    assert "levels deep" in refused(deep)
