from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.site.units import (
    LARGEST_SIZE,
    LONGEST_TIME,
    QuantityError,
    about_size,
    format_cores,
    format_duration,
    format_size,
    parse_cores,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5 GiB", 5 * 2**30),
        ("10 GB", 10 * 10**9),
        ("500 MiB", 500 * 2**20),
        ("24 GiB", 25_769_803_776),
        ("16 GiB", 17_179_869_184),
        ("1.5 GiB", 3 * 2**29),
        ("0.5 kB", 500),
        ("4Gi", 4 * 2**30),
        ("4GiB", 4 * 2**30),
        ("  2   TiB ", 2 * 2**40),
        ("1 B", 1),
        ("1 KB", 1000),
        ("0 B", 0),
    ],
)
def test_sizes_are_exact_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5", "no unit"),
        ("10G", "ambiguous"),
        ("10 g", "ambiguous"),
        ("512M", "write MiB or MB"),
        ("1k", "write KiB or kB"),
        ("5 gib", "did you mean GiB?"),
        ("5 Gb", "did you mean GB?"),
        ("5 GiBs", "not a unit of size"),
        ("-5 GiB", "negative"),
        ("1,5 GiB", "comma"),
        ("5 5 GiB", "cannot be read"),
        ("", "cannot be read"),
        ("GiB", "cannot be read"),
        ("0.3 GiB", "whole number of bytes"),
        ("1.5 B", "whole number of bytes"),
        ("99999 PiB", "larger than"),
        ("1e3 MiB", "cannot be read"),
        ("٥ GiB", "cannot be read"),
        ("1" * 400 + " B", "cannot be read"),
    ],
)
def test_a_size_that_cannot_be_meant_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(QuantityError, match=says):
        parse_size(text)


def test_the_remedy_for_a_fraction_of_a_byte_can_be_written() -> None:
    with pytest.raises(QuantityError) as caught:
        parse_size("0.3 GiB")
    assert caught.value.fix == "write 307 MiB"
    assert parse_size("307 MiB") > 0


@given(st.integers(min_value=0, max_value=LARGEST_SIZE))
def test_a_formatted_size_reads_back_as_itself(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(1, 2**32), st.sampled_from(["KiB", "MiB", "GiB"]))
def test_a_whole_number_of_units_is_written_without_bytes(count: int, unit: str) -> None:
    size = parse_size(f"{count} {unit}")
    assert not format_size(size).endswith(" B")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (25_769_803_776, "24 GiB"),
        (10 * 10**9, "10 GB"),
        (3 * 2**29, "1.5 GiB"),
        (2**20 * 500, "500 MiB"),
        (1_234_567, "1234567 B"),
        (0, "0 B"),
    ],
)
def test_sizes_are_written_as_users_would(size: int, text: str) -> None:
    assert format_size(size) == text


def test_a_measured_size_is_rounded() -> None:
    assert about_size(25_123_456_789) == "23.4 GiB"
    assert about_size(2**30) == "1 GiB"
    assert about_size(12) == "12 B"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20 min", 1200.0),
        ("1 h", 3600.0),
        ("90 s", 90.0),
        ("2 d", 172_800.0),
        ("1 h 30 min", 5400.0),
        ("1h30min", 5400.0),
        ("0.5 s", 0.5),
        ("1 minute", 60.0),
        ("2 hours", 7200.0),
    ],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("20", "no unit"),
        ("20 m", "ambiguous"),
        ("20 Min", "did you mean min?"),
        ("1 month", "not a unit of time"),
        ("-1 h", "not a duration"),
        ("30 min 1 h", "larger units come first"),
        ("1 h 2 h", "larger units come first"),
        ("", "not a duration"),
        ("h", "not a duration"),
        ("1e9 s", "not a unit of time"),
        ("4000 d", "ten years"),
        ("1 s " * 100, "not a duration"),
    ],
)
def test_a_duration_that_cannot_be_meant_is_refused(text: str, says: str) -> None:
    with pytest.raises(QuantityError, match=says):
        parse_duration(text)


@given(st.integers(0, LONGEST_TIME * 10**6))
def test_a_formatted_duration_reads_back_as_itself(microseconds: int) -> None:
    seconds = float(Fraction(microseconds, 10**6))
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "cores"), [(2, 2.0), (0.5, 0.5), ("500m", 0.5), ("2", 2.0), ("1.25", 1.25)]
)
def test_cores(value: str | float, cores: float) -> None:
    assert parse_cores(value) == cores


@pytest.mark.parametrize("value", [True, "2 cores", "-1", -1, 10**9, "2 GiB", "", float("nan"), float("inf")])
def test_impossible_cores_are_refused(value: str | float) -> None:
    with pytest.raises(QuantityError):
        parse_cores(value)


def test_cores_for_users() -> None:
    assert [format_cores(cores) for cores in (1, 2, 0.5)] == ["1 core", "2 cores", "0.5 cores"]


@given(st.text(max_size=80))
def test_no_text_makes_a_parser_fail_otherwise(text: str) -> None:
    for parser in (parse_size, parse_duration, parse_cores):
        try:
            parser(text)
        except QuantityError as error:
            assert error.what
            assert error.expected
