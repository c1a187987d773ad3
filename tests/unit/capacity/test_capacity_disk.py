"""What a user's use of the disk means for them: verdicts and words."""

from __future__ import annotations

import pytest

from tidehub.capacity.disk import DiskUse, Verdict, judge, refusal, words

GIB = 2**30


@pytest.mark.parametrize(
    ("use", "limit", "verdict"),
    [
        (None, 10 * GIB, Verdict.FREE),
        (DiskUse(50 * GIB), None, Verdict.FREE),
        (DiskUse(0), 10 * GIB, Verdict.FREE),
        (DiskUse(9 * GIB - 1), 10 * GIB, Verdict.FREE),
        (DiskUse(9 * GIB), 10 * GIB, Verdict.NEAR),
        (DiskUse(10 * GIB), 10 * GIB, Verdict.NEAR),
        (DiskUse(10 * GIB + 1), 10 * GIB, Verdict.OVER),
        (DiskUse(11 * GIB, complete=False), 10 * GIB, Verdict.OVER),
    ],
)
def test_verdicts(use: DiskUse | None, limit: int | None, verdict: Verdict) -> None:
    assert judge(use, limit) is verdict
    assert bool(words(use, limit)) == (verdict is not Verdict.FREE)
    assert bool(refusal(use, limit)) == (verdict is Verdict.OVER)


def test_a_refusal_says_how_much_how_much_is_allowed_and_the_way_in() -> None:
    told = words(DiskUse(11 * GIB), 10 * GIB)
    assert told.startswith("Your files take 11 GiB, and 10 GiB is what each user may use here")
    assert "Start a server for freeing space" in told and "larger than 16 MiB" in told


def test_what_could_not_all_be_counted_is_said() -> None:
    assert "take at least 11 GiB" in refusal(DiskUse(11 * GIB, complete=False), 10 * GIB)


def test_a_warning_refuses_nothing() -> None:
    told = words(DiskUse(9 * GIB), 10 * GIB)
    assert "delete what is not needed" in told and "Start a server" not in told
