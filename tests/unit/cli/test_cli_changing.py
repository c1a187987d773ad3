"""What the commands that change a cluster print, ask and remember of how they were typed."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
import typer

from tidehub.cli.changing import change_failure_json, changing, commands, confirmed, given, options, switched
from tidehub.cli.main import run
from tidehub.errors import INTERRUPTED, USAGE, TidehubError, UsageError
from tidehub.kubernetes.deploying import ending
from tidehub.kubernetes.deploying.journal import Journal
from tidehub.kubernetes.deploying.words import Failure, Interrupted


def journal() -> Journal:
    begun = Journal.start("deploy", ["crds"], id="1", who="ana", tidehub="1", at="now", command="x")
    return begun.fail("crds", "now", "refused")


def test_the_command_that_goes_on_is_the_one_that_was_typed(tmp_path: object) -> None:
    from pathlib import Path

    typed = commands("upgrade", Path("my site.yaml"), Path("k"), "prod", *given("--set", ["a=b c"]))
    assert typed.again == "tidehub upgrade 'my site.yaml' --kubeconfig k --context prod --set 'a=b c'"
    assert typed.other("rollback", "--to", "3") == (
        "tidehub rollback 'my site.yaml' --kubeconfig k --context prod --to 3"
    )
    assert commands("deploy", None, None, None).again == "tidehub deploy"
    assert switched(offline=True, no_check=True, no_backup=False) == ["--offline", "--no-check"]


def test_options() -> None:
    found = options(60, ["hub", "x"], no_backup=True)
    assert (found.timeout, found.adopt, found.save, found.check) == (60, {"hub", "x"}, False, True)


def test_a_fault_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    cause = TidehubError("the image cannot be pulled", fix="correct it")
    failure = Failure(
        cause, state="failed: Pods", command="tidehub rollback", journal=journal(), evidence=["not found"]
    )
    with pytest.raises(typer.Exit) as ended:
        with changing(True):
            raise failure
    assert ended.value.exit_code == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False and said["then"] == "tidehub rollback" and said["evidence"] == ["not found"]
    assert said["steps"][0]["state"] == "failed"
    assert change_failure_json(UsageError("no"))["state"] == "nothing was changed"


def test_a_fault_in_words_goes_the_way_of_all_faults() -> None:
    with pytest.raises(Interrupted) as caught:
        with changing(False):
            raise Interrupted(None, state="nothing was changed", command="tidehub deploy")
    assert caught.value.exit_code == INTERRUPTED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_is_an_interruption(number: signal.Signals) -> None:
    # Whoever started the tests may have had it ignored, as nohup does.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt):
            with changing(False):
                os.kill(os.getpid(), number)
                time.sleep(10)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
        ending.forget()


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with changing(False):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_deleted_for_good_is_confirmed_by_the_namespace() -> None:
    confirmed("daskhub", ["users' homes"], "daskhub")
    with pytest.raises(UsageError, match="is not the namespace"):
        confirmed("daskhub", ["users' homes"], "jupyterhub")
    with pytest.raises(UsageError, match="no terminal to confirm it") as refused:
        confirmed("daskhub", ["users' homes", "the namespace"], None)
    assert "--yes daskhub" in str(refused.value) and "users' homes, the namespace" in str(refused.value)


def test_a_database_is_either_put_back_or_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["rollback", "--database", "x.tar.gz", "--keep-database"]) == USAGE
    assert "contradict each other" in capsys.readouterr().err
