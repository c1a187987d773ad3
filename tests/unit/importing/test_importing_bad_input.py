"""Files that are wrong in every way users and machines manage: an answer, never a traceback, a hang or half a file."""

from __future__ import annotations

import copy
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helm_values import PROTOCOAST, VALUES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_values import ACCEPTED, ODD, REFUSED

from tidehub.cli.main import run
from tidehub.importing.build import import_documents
from tidehub.importing.command import import_files
from tidehub.importing.fates import leaves
from tidehub.importing.round_trip import explained, unaccounted
from tidehub.importing.values_yaml import Document, ValuesError, read_values
from tidehub.site.problems import KeyPath

SECONDS = 30
"""Far more than any of these takes on a busy machine; without it a hang would stop the whole run."""


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_the_table_is_long_enough() -> None:
    assert len(REFUSED) + len(ACCEPTED) >= 200


def _import(content: bytes, directory: Path) -> int:
    file = directory / "values.yaml"
    file.write_bytes(content)
    return run(["import", str(file), "--output", str(directory / "site")])


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_what_is_no_values_file_is_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _import(content, tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["values.yaml"]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("tidehub: ")
    assert "values.yaml" in said.err
    assert "Traceback" not in said.err
    assert len(said.err) < 6000


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED)
def test_odd_values_are_kept_and_told(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _import(content, tmp_path)
    said = capsys.readouterr()
    assert code in (0, 1), said.err
    assert said.err == ""
    assert all(character.isprintable() or character == "\n" for character in said.out)
    names = sorted(path.name for path in (tmp_path / "site").iterdir())
    assert names in (["tidehub.yaml"], [".gitignore", "tidehub.secrets.yaml", "tidehub.yaml"])
    document = read_values(content.decode("utf-8-sig"), "values.yaml")
    found = import_documents([document])
    assert unaccounted([document], found) == []
    assert explained(found)


def _paths() -> list[tuple[str, KeyPath]]:
    found: list[tuple[str, KeyPath]] = []
    for name in ("pangeo-daskhub.yaml", *PROTOCOAST):
        data = read_values((VALUES / name).read_text(encoding="utf-8"), name).data
        seen: set[KeyPath] = set()
        for leaf in leaves(data):
            for length in range(1, len(leaf) + 1):
                if leaf[:length] not in seen:
                    seen.add(leaf[:length])
                    found.append((name, leaf[:length]))
    return found


@pytest.mark.parametrize(("name", "path"), _paths(), ids=lambda value: str(value)[:60])
def test_any_value_of_the_seeds_may_be_something_else(name: str, path: KeyPath) -> None:
    """About 1700 mutated files: every value and every mapping of the seeds, replaced by each odd value."""
    original = read_values((VALUES / name).read_text(encoding="utf-8"), name).data
    for odd in ODD.values():
        data = copy.deepcopy(original)
        inner: Any = data
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = copy.deepcopy(odd)
        document = _document(data)
        try:
            found = import_documents([document])
        except ValuesError:
            assert len(path) == 1, "only the root decides what a file is"
            continue
        assert unaccounted([document], found) == []
        assert explained(found)


def _document(data: dict[str, Any]) -> Document:
    """A document whose places are all different, as in a file with one value a line."""
    from tidehub.errors import Place

    places: dict[KeyPath, Place] = {}

    def below(value: Any, path: KeyPath) -> None:
        if path:
            places[path] = Place("values.yaml", len(places) + 1, 1)
        if isinstance(value, dict):
            for key, item in value.items():
                below(item, (*path, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                below(item, (*path, index))

    below(data, ())
    return Document("values.yaml", data, places)


_KEYS = st.sampled_from(
    [
        *(
            "hub",
            "config",
            "GenericOAuthenticator",
            "JupyterHub",
            "Authenticator",
            "services",
            "dask-gateway",
        ),
        *(
            "singleuser",
            "image",
            "name",
            "tag",
            "profileList",
            "display_name",
            "kubespawner_override",
            "extraEnv",
        ),
        *("memory", "cpu", "limit", "guarantee", "storage", "capacity", "ingress", "hosts", "annotations"),
        *(
            "proxy",
            "secretToken",
            "apiToken",
            "gateway",
            "auth",
            "type",
            "backend",
            "worker",
            "extraConfig",
            "x",
        ),
    ]
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.just("5G"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hub=_VALUES, gateway=_VALUES, singleuser=_VALUES)
def test_random_values_are_accounted_for(hub: Any, gateway: Any, singleuser: Any) -> None:
    document = _document({"hub": hub, "gateway": gateway, "singleuser": singleuser})
    found = import_documents([document])
    assert unaccounted([document], found) == []
    assert explained(found)


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("missing", "pipe", "dangling", "loop", ".", "x" * 300):
        assert run(["import", str(tmp_path / name), "-o", str(tmp_path / "out")]) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_all_bad_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("hub: [")
    (tmp_path / "b.yaml").write_text("hub: {a: 1, a: 2}")
    with pytest.raises(ValuesError) as caught:
        import_files([tmp_path / "a.yaml", tmp_path / "b.yaml"], tmp_path / "out")
    assert "a.yaml:1" in str(caught.value)
    assert "b.yaml:1:13" in str(caught.value)


def test_a_template_is_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _import(REFUSED["template in a value"], tmp_path) == 2
    assert "this is a template" in capsys.readouterr().err
