"""Journal, record, and how steps are run: written down before they are done, only where needed, with one way on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from memory_cluster import MemoryCluster

from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying import ending
from tidehub.kubernetes.deploying.journal import Journal
from tidehub.kubernetes.deploying.record import (
    Deployed,
    Record,
    ReleaseState,
    config_map,
    digest,
    parse,
    read_record,
    without_secrets,
)
from tidehub.kubernetes.deploying.rollback import saved_before, target_of
from tidehub.kubernetes.deploying.running import Options, Result, Work, run_steps
from tidehub.kubernetes.deploying.words import Commands, Failure, Interrupted, counted, listed, span, state_of

SPACE = "daskhub"


@dataclass
class Does:
    """A step that does something once."""

    name: str
    act: Callable[[Work], None] = lambda work: None
    done: bool = False
    seen: list[Any] = field(default_factory=list)

    @property
    def title(self) -> str:
        return self.name.capitalize()

    def needed(self, work: Work) -> bool:
        return not self.done

    def run(self, work: Work) -> str:
        record = read_record(work.cluster, SPACE)
        assert record is not None and record.journal is not None
        self.seen.append(record.journal.current and record.journal.current.step)
        self.act(work)
        self.done = True
        return f"{self.name} came about"


def work(cluster: MemoryCluster) -> Work:
    commands = Commands("deploy", ("site.yaml", "--set", "a=b"), ("site.yaml",))
    return Work(cluster, helm=None, namespace=SPACE, options=Options(poll=0), commands=commands)  # type: ignore[arg-type]


def run(cluster: MemoryCluster, *steps: Does, **more: Any) -> Result:
    return run_steps(work(cluster), "deploy", steps, ensure_namespace=lambda work: None, **more)


def fails(work: Work) -> None:
    raise TidehubError("the cloud is gone", fix="wait for it")


def test_every_step_is_written_down_before_it_is_done() -> None:
    cluster = MemoryCluster()
    one, two = Does("one"), Does("two")
    result = run(cluster, one, two)
    assert result.changed and one.seen == ["one"] and two.seen == ["two"]
    record = read_record(cluster, SPACE)  # type: ignore[arg-type]
    assert record is not None and record.unfinished is None and record.journal is not None
    assert [entry.state for entry in record.journal.entries] == ["done", "done"]
    assert record.journal.note_of("two") == "two came about"


def test_nothing_is_written_where_nothing_is_needed() -> None:
    cluster = MemoryCluster()
    assert not run(cluster, Does("one", done=True)).changed
    assert cluster.writes == []


def test_a_step_that_is_not_needed_is_passed_over() -> None:
    cluster = MemoryCluster()
    run(cluster, Does("one", done=True), Does("two"))
    record = read_record(cluster, SPACE)  # type: ignore[arg-type]
    assert record is not None and record.journal is not None
    assert [entry.state for entry in record.journal.entries] == ["nothing to do", "done"]


@pytest.mark.parametrize(
    ("act", "ended"),
    [
        (fails, "failed at two"),
        (lambda work: _stop(), "was interrupted at two"),
        (None, "did not end at two"),
    ],
)
def test_what_became_of_the_last_one_is_told_in_words(act: Any, ended: str) -> None:
    cluster = MemoryCluster()
    step = Does("two", act or fails)
    with pytest.raises((Failure, Interrupted)):
        run(cluster, step)
    record = read_record(cluster, SPACE)  # type: ignore[arg-type]
    assert record is not None and record.journal is not None
    if act is None:
        # Killed: nobody wrote how it ended.
        killed = replace(record.journal.begin("two", "now"), outcome="", ended="")
        cluster.apply(config_map(replace(record, journal=killed), SPACE), SPACE)
    told: list[str] = []
    again = work(cluster)
    again.say.note = told.append  # type: ignore[method-assign]
    run_steps(again, "deploy", [Does("two")], ensure_namespace=lambda work: None)
    assert f") {ended}; going on" in told[0]


def _stop() -> None:
    raise KeyboardInterrupt


def test_status_advises_what_the_failure_advised() -> None:
    class Back(TidehubError):
        goes_back = True

    def wrong(work: Work) -> None:
        raise Back("the image is not there")

    cluster = MemoryCluster()
    with pytest.raises(Failure) as caught:
        run(cluster, Does("one", wrong), back=lambda work: "tidehub rollback site.yaml")
    record = read_record(cluster, SPACE)  # type: ignore[arg-type]
    assert record is not None and record.unfinished is not None
    assert record.unfinished.command == caught.value.command == "tidehub rollback site.yaml"


def test_a_failure_says_the_state_and_one_command() -> None:
    cluster = MemoryCluster()
    with pytest.raises(Failure) as caught:
        run(cluster, Does("one"), Does("two", fails), Does("three"))
    assert str(caught.value).splitlines() == [
        "the cloud is gone",
        "  to do: wait for it",
        "  state: done: One; failed: Two; not begun: Three",
        "  then: tidehub deploy site.yaml --set a=b",
    ]
    record = read_record(cluster, SPACE)  # type: ignore[arg-type]
    assert record is not None and record.unfinished is not None and record.unfinished.outcome == "failed"


def test_what_is_unfinished_is_gone_on_with_even_if_no_step_is_left() -> None:
    cluster = MemoryCluster()
    with pytest.raises(Failure):
        run(cluster, Does("one", fails))
    assert run(cluster, Does("one", done=True)).changed
    record = read_record(cluster, SPACE)  # type: ignore[arg-type]
    assert record is not None and record.unfinished is None


def test_a_failure_that_waiting_cannot_help_goes_back() -> None:
    class Broken(TidehubError):
        goes_back = True

    def breaks(work: Work) -> None:
        raise Broken("it crashes")

    with pytest.raises(Failure) as caught:
        run(MemoryCluster(), Does("one", breaks), back=lambda work: "tidehub rollback site.yaml")
    assert caught.value.command == "tidehub rollback site.yaml"


def test_ctrl_c_is_written_down() -> None:
    cluster = MemoryCluster()

    def stops(work: Work) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        run(cluster, Does("one", stops), Does("two"))
    assert caught.value.exit_code == 130
    assert "not finished: One; not begun: Two" in str(caught.value)
    record = read_record(cluster, SPACE)  # type: ignore[arg-type]
    assert record is not None and record.unfinished is not None and record.unfinished.outcome == "interrupted"
    assert cluster.get("coordination.k8s.io/v1", "Lease", "tidehub", SPACE)["spec"]["holderIdentity"] == ""  # type: ignore[index]


def test_a_ctrl_c_that_a_library_swallows_ends_before_the_next_step() -> None:
    cluster = MemoryCluster()

    def swallows(work: Work) -> None:
        # What Python does with an exception of a signal handler inside a destructor.
        with contextlib.suppress(KeyboardInterrupt):
            ending.ask()
            raise KeyboardInterrupt

    try:
        with pytest.raises(Interrupted) as caught:
            run(cluster, Does("one", swallows), Does("two"))
        assert "done: One; not begun: Two" in str(caught.value)
        ending.ask()
        with pytest.raises(KeyboardInterrupt):
            ending.pause(60)
    finally:
        ending.forget()


def test_a_server_that_is_gone_does_not_hide_what_failed() -> None:
    cluster = MemoryCluster()

    def vanishes(work: Work) -> None:
        def gone(verb: str, kind: str) -> None:
            raise ClusterProblem("no answer", reason="unreachable")

        cluster.before = gone
        raise ClusterProblem("the API server does not answer", reason="unreachable")

    with pytest.raises(Failure, match="the API server does not answer") as caught:
        run(cluster, Does("one", vanishes))
    assert caught.value.unanswered
    cluster.before = lambda verb, kind: None
    record = read_record(cluster, SPACE)  # type: ignore[arg-type]
    assert record is not None and record.unfinished is not None and record.unfinished.outcome == ""
    assert record.unfinished.current is not None and record.unfinished.current.step == "one"


# -- the record


def state(name: str = "jupyterhub", **more: Any) -> ReleaseState:
    return replace(ReleaseState(name, name, "4.4.0", "sha", "values", "manifest", 1), **more)


def deployed(revision: int, **more: Any) -> Deployed:
    return Deployed(
        revision, "2026-11-22T10:00:00Z", "ana@desk", "0.1", "2026.11", "split", (state(),), **more
    )


def test_the_record_reads_what_it_wrote() -> None:
    journal = Journal.start(
        "rollback", ["a", "b"], id="1", who="ana@desk", tidehub="0.1", at="now", command="tidehub", aim="2"
    )
    policy = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    record = Record((deployed(1, objects=(policy,)),), journal.begin("a", "now"), (state(),), ("Secret/hub",))
    written = config_map(record, SPACE)
    assert parse(written["data"], SPACE) == record
    assert written["data"]["charts"] == "jupyterhub: jupyterhub 4.4.0"


def test_a_newer_tidehub_is_not_misread() -> None:
    with pytest.raises(TidehubError, match="a newer tidehub works on"):
        parse({"format": "99"}, SPACE)
    with pytest.raises(TidehubError, match="is damaged"):
        parse({"format": "1", "journal": json.dumps({"operation": "dance"})}, SPACE)


def test_a_config_map_of_somebody_else_is_left_alone() -> None:
    cluster = MemoryCluster()
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tidehub"}}, SPACE)
    with pytest.raises(TidehubError, match="was not made by tidehub"):
        read_record(cluster, SPACE)  # type: ignore[arg-type]


def test_only_the_last_ten_states_are_kept() -> None:
    record = Record()
    for _ in range(12):
        record = record.reached(deployed(record.next_revision))
    assert [one.revision for one in record.revisions] == list(range(3, 13))


def test_a_record_fits_into_its_config_map() -> None:
    large = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "x" * 200_000}}
    record = Record(tuple(deployed(number, objects=(large,)) for number in range(1, 9)))
    written = config_map(record, SPACE)
    assert len(json.dumps(written)) < 2**20 - 2**17
    assert [one.revision for one in parse(written["data"], SPACE).revisions] == [7, 8]


def test_no_secret_gets_into_the_record() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "cGFzcw=="}}
    assert without_secrets([secret, {"kind": "ConfigMap"}]) == ({"kind": "ConfigMap"},)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1})


def test_where_a_rollback_goes() -> None:
    record = Record((deployed(1), deployed(2), deployed(3)))
    assert target_of(record, None, SPACE).revision == 2
    assert target_of(record, 1, SPACE).revision == 1
    with pytest.raises(TidehubError, match="revision 7 does not exist"):
        target_of(record, 7, SPACE)
    with pytest.raises(TidehubError, match="only one state"):
        target_of(Record((deployed(1),)), None, SPACE)
    with pytest.raises(TidehubError, match="nothing is recorded"):
        target_of(None, None, SPACE)

    def journal(operation: Any, aim: str = "") -> Journal:
        return Journal.start(operation, ["a"], id="", who="", tidehub="", at="", command="", aim=aim)

    unfinished = replace(record, journal=journal("deploy").begin("a", "now"))
    assert target_of(unfinished, None, SPACE).revision == 3, "what is there now was never reached"
    going_back = replace(record, journal=journal("rollback", "1").begin("a", "now"))
    assert target_of(going_back, None, SPACE).revision == 1, "it goes on to where it was going"


def test_the_copy_that_belongs_to_a_state_is_the_one_made_when_it_was_left(tmp_path: Any) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.touch()
    second.touch()
    record = Record((deployed(1), deployed(2, saved=str(first)), deployed(3, saved=str(second))))
    assert saved_before(record, record.revisions[0]) == first
    assert saved_before(record, record.revisions[1]) == second
    assert saved_before(record, record.revisions[2]) is None


# -- words


def test_words() -> None:
    assert [span(one) for one in (3, 99.4, 200, 240, 7500)] == [
        "3 s",
        "99 s",
        "3 min 20 s",
        "4 min",
        "2 h 5 min",
    ]
    assert [counted(1, "home"), counted(2, "home"), counted(0, "copy", "copies")] == [
        "1 home",
        "2 homes",
        "0 copies",
    ]
    assert listed(["a", "b", "c"]) == "a, b and c" and listed("abcdefg") == "a, b, c, d and 3 more"
    assert state_of(None) == "nothing was changed"
