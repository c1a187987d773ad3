"""Reading a site: all its problems in one run, each with its place; or one frozen `Site` and its values' sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tidehub import program
from tidehub.errors import Place
from tidehub.site import presets
from tidehub.site.coherence.check import check
from tidehub.site.model import Site
from tidehub.site.model.quantities import WRITTEN
from tidehub.site.problems import DEFAULT, KeyPath, Problem, SiteError, Source, dotted
from tidehub.site.reading.files import text_of
from tidehub.site.reading.recovery import read_all
from tidehub.site.reading.sources import PREFIX, Layers, path_of, path_of_variable
from tidehub.site.reading.syntax import WHOLE_FILE
from tidehub.site.reading.tree import Entries, Node, locate, read, to_data
from tidehub.site.reading.words import each_once, problems_of

Override = tuple[str, Any]
"""A dotted key and the value it gets, from a command line: `("machine.port", 8443)`, `("site.url", None)`."""


@dataclass(frozen=True)
class Loaded:
    """A site, what an operator should know about it, and where its values were set."""

    site: Site
    warnings: tuple[Problem, ...]
    sources: Mapping[KeyPath, Source]
    """Of every value that was set anywhere; what is not here has its default."""

    @property
    def places(self) -> dict[KeyPath, Place]:
        """Where each key of the file stands."""
        return {path: source.place for path, source in self.sources.items() if source.place is not None}

    def source_of(self, path: KeyPath) -> Source:
        """What set the value at a path, or a mapping or list at it."""
        return self.sources.get(path, DEFAULT)


def load_site(
    path: str | Path, *, overrides: Iterable[Override] = (), environ: Mapping[str, str] | None = None
) -> Site:
    """The site that a file states. Raises `SiteError` with every problem."""
    return load(path, overrides=overrides, environ=environ).site


def load(
    path: str | Path, *, overrides: Iterable[Override] = (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """The site with its warnings and sources. Raises `SiteError` with every problem.

    `environ` holds variables `TIDEHUB__SECTION__KEY`, which replace what the file says; `overrides` replace both.
    """
    text = text_of(Path(path), str(path))
    return load_text(text, str(path), overrides=overrides, environ=environ, base=Path(path).absolute().parent)


def load_text(
    text: str,
    file: str,
    *,
    overrides: Iterable[Override] = (),
    environ: Mapping[str, str] | None = None,
    base: Path | None = None,
) -> Loaded:
    """As `load`, from text. `file` names it in messages; `base` is what relative file names start from."""
    root, problems, broken = read_all(text, file)
    if root is None:
        raise SiteError(file, problems or [_empty(file)])
    if not isinstance(root, Entries):
        if problems and root.value is None:
            raise SiteError(file, problems)
        empty = root.value is None and root.size == 1
        raise SiteError(file, [*problems, _empty(file) if empty else _not_a_mapping(file, root)])
    return _loaded(_File(root, file), problems, broken, overrides, environ or {}, base)


@cache
def builtin_site() -> Site:
    """The site of a bare `tidehub up`: demo accounts, two profiles, Dask clusters that suit a laptop."""
    return load_preset("laptop").site


def load_preset(
    name: str, *, overrides: Iterable[Override] = (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """A preset as a site. Raises `KeyError` for an unknown name, `SiteError` for what was put over it."""
    presets.text_of(name)
    root = Entries(0, 0, items={"preset": (Node(0, 0, "preset"), Node(0, 0, name))})
    return _loaded(_File(root, f"the preset {name}"), [], frozenset(), overrides, environ or {}, None)


DEFAULT_NAME = "tidehub.yaml"
"""The site file that commands find by themselves."""


@dataclass(frozen=True)
class _File:
    root: Entries
    name: str


def _loaded(
    file: _File,
    problems: list[Problem],
    broken: frozenset[str],
    overrides: Iterable[Override],
    environ: Mapping[str, str],
    base: Path | None,
) -> Loaded:
    layers = Layers()
    settings = [*_variables(environ, problems), *_options(overrides)]
    written = to_data(file.root)
    _preset_below(layers, written, settings)
    places = dict(_walk(file))
    layers.merge(written, lambda path: Source("file", place=places[path]))
    for path, value, source in settings:
        refused = layers.put(path, value, source)
        if refused is not None:
            problems.append(refused.of(source))
    if base is not None:
        problems += _resolve_files(layers.data, base)
    meant_a_preset = layers.data.get("preset") not in (None, *presets.NAMES)
    site, found = _validated(layers.data)
    # What was taken out to read on makes its section incomplete, so only its syntax is spoken of.
    problems += [problem for problem in found if not _within(problem, broken)]
    if layers.data.get("preset") in presets.NAMES:
        problems = [_of_replaced_login(problem) for problem in problems]
    if meant_a_preset:
        # A preset was meant to bring the sections that are not there.
        problems = [
            problem for problem in problems if "is missing" not in problem.what or len(problem.path) > 1
        ]
    named = file.name if base is not None and file.name != DEFAULT_NAME else None
    placed = _in_order([_placed(problem.about(named), file, layers) for problem in problems])
    if site is None or any(problem.severity == "error" for problem in placed):
        raise SiteError(file.name, placed)
    return Loaded(site, tuple(placed), layers.sources)


def _preset_below(layers: Layers, written: Any, settings: list[tuple[KeyPath, Any, Source]]) -> None:
    name = next(
        (value for path, value, _ in reversed(settings) if path == ("preset",)), written.get("preset")
    )
    if name not in presets.NAMES:
        return  # None, or refused by the model
    root, _, _ = read(presets.text_of(name), name)
    assert root is not None
    layers.merge(to_data(root), lambda path: Source("preset", name))


def _variables(environ: Mapping[str, str], problems: list[Problem]) -> Iterator[tuple[KeyPath, Any, Source]]:
    for name in sorted(environ):
        if name.startswith(PREFIX):
            source, path = Source("environment", name), path_of_variable(name)
            value, faults = value_of(environ[name], str(source))
            problems += [replace(fault, path=path).of(source) for fault in faults]
            if not faults:
                yield path, value, source


def _options(overrides: Iterable[Override]) -> Iterator[tuple[KeyPath, Any, Source]]:
    for key, value in overrides:
        path = path_of(key)
        yield path, value, Source("command line", f"--set {dotted(path)}")


def value_of(text: str, name: str) -> tuple[Any, list[Problem]]:
    """A value given outside of the file, written as in YAML: `8 GiB`, `true`, `[openid, email]`. And what is wrong."""
    node, problems, _ = read(text, name)
    if node is None and not problems:
        return None, []
    return (None, problems) if node is None or problems else (to_data(node), [])


def _validated(data: dict[str, Any]) -> tuple[Site | None, list[Problem]]:
    try:
        site = Site.model_validate(data, context=WRITTEN)
    except ValidationError as error:
        problems = problems_of(error)
        return None, each_once(problems) + _coherence_of_the_rest(data, problems)
    return site, check(site)


def _coherence_of_the_rest(data: dict[str, Any], problems: list[Problem]) -> list[Problem]:
    """What coherence says about the sections without a wrong value, so that one run shows everything."""
    wrong = {problem.path[0] for problem in problems if problem.path}
    for problem in problems:
        _drop(data, problem.path)
    try:
        site = Site.model_validate(data, context=WRITTEN)
    except ValidationError:
        # A wrong value was required. Whole sections of another site in its place let the others be looked at.
        sound = _sound_sections()
        for section in wrong:
            data.pop(str(section), None)
            if str(section) in sound:
                data[str(section)] = sound[str(section)]
        try:
            site = Site.model_validate(data, context=WRITTEN)
        except ValidationError:
            return []
    return [finding for finding in check(site) if not wrong & set(finding.path[:1])]


def _sound_sections() -> dict[str, Any]:
    root, _, _ = read(presets.text_of("laptop"), "laptop")
    assert root is not None
    found: dict[str, Any] = to_data(root)
    return found


def _drop(data: Any, path: KeyPath) -> None:
    for part in path[:-1]:
        data = data[part] if _has(data, part) else None
    if path and isinstance(data, dict):
        data.pop(path[-1], None)


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


def _within(problem: Problem, broken: frozenset[str]) -> bool:
    return bool(broken) and (WHOLE_FILE in broken or not problem.path or problem.path[0] in broken)


def _resolve_files(data: dict[str, Any], base: Path) -> list[Problem]:
    """Make file names absolute: they are written relative to the site file. Says which are not there."""
    problems = []
    notebooks = data.get("notebooks")
    profiles = notebooks.get("profiles") if isinstance(notebooks, dict) else None
    for index, profile in enumerate(profiles if isinstance(profiles, list) else []):
        if isinstance(profile, dict) and isinstance(profile.get("lock"), str) and profile["lock"]:
            profile["lock"] = str(base / profile["lock"])
            if not _is_file(profile["lock"]):
                path: KeyPath = ("notebooks", "profiles", index, "lock")
                problems.append(
                    Problem(f"file {profile['lock']} does not exist", path, expected="a lock file")
                )
    machine = data.get("machine")
    tls = machine.get("tls") if isinstance(machine, dict) else None
    for name in ("certificate", "key"):
        if isinstance(tls, dict) and isinstance(tls.get(name), str) and tls[name]:
            tls[name] = str(base / tls[name])
            if not _is_file(tls[name]):
                # A warning: the file may be checked elsewhere than on the machine that serves the site.
                what, fix = (
                    f"file {tls[name]} does not exist on this machine",
                    f"`{program.command('up')}` needs it",
                )
                problems.append(Problem(what, ("machine", "tls", name), fix=fix, severity="warning"))
    return problems


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def _of_replaced_login(problem: Problem) -> Problem:
    if problem.path[:1] != ("login",) or "is missing" not in problem.what or problem.fix is not None:
        return problem
    return replace(problem, fix="write all of login here: this section replaces the preset's as a whole")


def _placed(problem: Problem, file: _File, layers: Layers) -> Problem:
    if problem.where is not None:
        return problem
    source = layers.source_of(problem.path)
    if source.kind not in ("file", "default"):
        return problem.of(source)
    return problem.at(locate(file.root, problem.path, key="not known" in problem.what).place(file.name))


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(
        problems, key=lambda problem: (problem.where.line, problem.where.column) if problem.where else (0, 0)
    )


def _walk(file: _File) -> Iterator[tuple[KeyPath, Place]]:
    def below(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, Place]]:
        yield path, node.place(file.name)
        if isinstance(node, Entries):
            for key, (_, value) in node.items.items():
                yield from below(value, (*path, key))
        else:
            for index, item in enumerate(getattr(node, "items", [])):
                yield from below(item, (*path, index))

    return below(file.root, ())


def _empty(file: str) -> Problem:
    fix = f"start with the sections site, login and notebooks; `{program.command('init')}` writes an example"
    return Problem("the file is empty", where=Place(file, 1, 1), fix=fix)


def _not_a_mapping(file: str, root: Node) -> Problem:
    where = Place(file, root.line, root.column)
    return Problem(
        "this is not a site file", where=where, expected="sections such as site:, login: and notebooks:"
    )
