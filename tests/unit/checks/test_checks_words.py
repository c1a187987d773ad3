from __future__ import annotations

import io
from pathlib import Path

import pytest

from tidehub.checks.kernel import Output, plain
from tidehub.checks.log_lines import LogFiles
from tidehub.checks.page import read_page
from tidehub.checks.promises import scrubber
from tidehub.checks.report import Phase, PhaseFailed, Report, lines


def test_a_form_is_read_as_the_browser_would_send_it() -> None:
    [form] = read_page(
        '<form action="/go" method="POST" enctype="multipart/form-data"><input type=hidden name=a value=1>'
        "<input type=radio name=p value=x><input type=radio name=p value=y checked><input name=b></form>"
    ).forms
    assert (form.action, form.method, form.multipart) == ("/go", "post", True)
    assert form.values() == {"a": "1", "p": "y", "b": ""}


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ('<title>Hub</title><div class="error"><h1>403</h1><p>Not a <b>member</b></p></div>', "403 Not a member"),
        ('<p role="alert">Wrong password</p><h1>Sign in</h1>', "Wrong password"),
        ('<div class="modal hidden"><p class="alert">Oops</p></div><h1>Sign in</h1>', "Sign in"),
        ("<title>Just a title</title>", "Just a title"),
        ('<div class="error"><p>one<p>two</div><p class=alert>three</p>', "one two; three"),
        ('<div class="error"><script>var x = "no";</script>yes<br>again</div>', "yes again"),
    ],
)  # fmt: skip
def test_the_words_of_a_page(html: str, words: str) -> None:
    assert read_page(html).words == words


def test_log_lines_are_new_matter_and_come_per_part(tmp_path: Path) -> None:
    (tmp_path / "hub.log").write_text("ERROR from yesterday\n")
    (tmp_path / "servers").mkdir()
    logs = LogFiles(tmp_path)
    with (tmp_path / "hub.log").open("a") as stream:
        stream.write("INFO nothing\nINFO alice came\n")
    (tmp_path / "servers" / "alice-default.log").write_text(
        "starting\nModuleNotFoundError: No module named 'x'\n"
    )
    assert logs.matter(["hub"], ["alice"]) == ["hub.log: INFO alice came"]
    assert logs.matter(["servers", "missing"], []) == [
        "servers/alice-default.log: ModuleNotFoundError: No module named 'x'"
    ]


def test_a_rotated_log_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "hub.log"
    log.write_text("a long line that was there before the check began\n")
    logs = LogFiles(tmp_path)
    log.write_text("ERROR new\n")
    assert logs.matter(["hub"], []) == ["hub.log: ERROR new"]


def test_secrets_do_not_pass() -> None:
    scrub = scrubber(["s3cr3t"])
    text = scrub("s3cr3t GET /cb?code=abc&state=def token=ghi https://me:pw@host/ Authorization: jkl")
    for hidden in ("s3cr3t", "abc", "def", "ghi", "me:pw", "jkl"):
        assert hidden not in text


def test_terminal_colours_are_removed() -> None:
    assert plain("\x1b[0;31mValueError\x1b[0m: no") == "ValueError: no"


def test_a_cell_without_a_result_shows_what_it_printed() -> None:
    assert Output('noise\n{"a": 1}\n', "", "").value() == {"a": 1}
    with pytest.raises(PhaseFailed) as failure:
        Output("noise\n", "", "").value()
    assert failure.value.evidence == ("noise",)


def test_a_report_is_well_only_if_all_was_tried() -> None:
    good, bad, untried = Phase("a", "A", "ok"), Phase("b", "B", "failed"), Phase("c", "C", "not run")
    assert Report("x", phases=[good]).ok
    assert not Report("x", phases=[]).ok
    assert not Report("x", phases=[good, bad]).ok
    assert not Report("x", phases=[good, untried]).ok
    assert [phase["ok"] for phase in Report("x", phases=[good, bad, untried]).to_json()["phases"]] == [
        True,
        False,
        None,
    ]


def test_a_failed_phase_shows_reason_news_and_evidence() -> None:
    phase = Phase(
        "spawn", "start a server", "failed", 1.5, why="no room", news=("place 2",), evidence=("hub.log: E",)
    )
    shown = lines(phase, plain=True)
    assert shown[0].split() == ["FAIL", "start", "a", "server", "1.50", "s"]
    assert [line.strip() for line in shown[1:]] == ["no room", "reported meanwhile: place 2", "| hub.log: E"]
    io.TextIOWrapper(io.BytesIO(), encoding="ascii").write("\n".join(shown))
