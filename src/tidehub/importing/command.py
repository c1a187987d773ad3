"""One `tidehub import`: read, translate, check the result as every site file is checked, write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidehub.errors import TidehubError, UsageError
from tidehub.importing.build import Imported, import_documents
from tidehub.importing.draft import is_line
from tidehub.importing.files import SITE_FILE, read_texts, refuse_existing, write
from tidehub.importing.listed import of_list
from tidehub.importing.round_trip import Otherwise, rendered_otherwise, unaccounted
from tidehub.importing.site_text import site_text
from tidehub.importing.values_yaml import Document, ValuesError, read_values
from tidehub.secrets.store import beside
from tidehub.site.model import Site
from tidehub.site.problems import Problem, SiteError
from tidehub.site.reading.load import load_text
from tidehub.site.reading.tree import read, to_data


@dataclass(frozen=True)
class Done:
    """What an import made. `problems` are the site file's own, errors and warnings."""

    imported: Imported
    text: str
    problems: tuple[Problem, ...]
    written: dict[str, str]
    otherwise: tuple[Otherwise, ...] = ()
    """Understood values that come out of the site in other words; known when the site is complete."""

    @property
    def is_complete(self) -> bool:
        """Whether the site file can be used as it is."""
        return not any(problem.severity == "error" for problem in self.problems)


def import_files(
    paths: Sequence[Path],
    directory: Path,
    *,
    namespace: str | None = None,
    name: str | None = None,
    force: bool = False,
    write_nothing: bool = False,
) -> Done:
    """Import values files into `directory`. Raises `UsageError`, and writes nothing, when that cannot be."""
    if namespace is not None and not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", namespace):
        raise UsageError(
            f"{namespace!r} is not a namespace", expected="lower-case letters, digits and -, at most 63"
        )
    if name is not None and not is_line(name):
        raise UsageError("this is not a name for a site", expected="one line of at most 255 characters")
    if not write_nothing:
        refuse_existing(directory, force=force)
    texts = read_texts(paths)
    documents = _documents(texts)
    imported = import_documents(documents, namespace=namespace, name=name)
    lost = unaccounted(documents, imported)
    if lost:
        # Never a silent loss: a fault of the rules stops the import.
        raise TidehubError(
            f"the import lost track of {len(lost)} values, the first in {lost[0]}",
            fix="please report this with the file, without its secrets; nothing was written",
        )
    site_file = directory / SITE_FILE
    text = _text(imported, beside(site_file).name)
    site, problems = _checked(text, directory)
    otherwise = tuple(rendered_otherwise(imported, documents, site)) if site is not None else ()
    written = {} if write_nothing else write(directory, text, imported)
    return Done(imported, text, problems, written, otherwise)


def _documents(texts: list[tuple[str, str]]) -> list[Document]:
    documents: list[Document] = []
    problems: list[Problem] = []
    for file, text in texts:
        try:
            documents += of_list(read_values(text, file))
        except ValuesError as error:
            problems += error.problems
    if problems:
        raise ValuesError(problems)
    return documents


def _text(imported: Imported, secrets_file: str) -> str:
    """The site file's text, which says what the data say. A surprise of the YAML library ends here."""
    found = ""
    for only_ascii in (False, True):
        text = site_text(imported, secrets_file=secrets_file, only_ascii=only_ascii)
        root, problems, _ = read(text, SITE_FILE)
        if root is not None and not problems and _plain(to_data(root)) == _plain(imported.site):
            return text
        found = f": {problems[0].what}" if problems else ""
    raise TidehubError(
        f"these values cannot be written as a site file{found}",
        fix="take out what is unusual in them (very long or deep values), and import the rest",
    )


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _checked(text: str, directory: Path) -> tuple[Site | None, tuple[Problem, ...]]:
    try:
        loaded = load_text(text, str(directory / SITE_FILE), base=directory.absolute())
    except SiteError as error:
        return None, error.problems
    return loaded.site, loaded.warnings
