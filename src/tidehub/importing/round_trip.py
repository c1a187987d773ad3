"""The account of an import: for every value of the original, what became of it. Nothing may be missing, or be twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tidehub.errors import Place
from tidehub.importing.build import Imported
from tidehub.importing.fates import Kind, LeafFate, leaves
from tidehub.importing.values_yaml import Document


def unaccounted(documents: Iterable[Document], imported: Imported) -> list[Place]:
    """Places of values that the import says nothing about, or that it counts twice. Empty when all is well.

    Independent of the rules: it compares the places of all leaves in the files with those in the account.
    """
    written = Counter(
        document.places[path] for document in documents for path in leaves(document.data) if path
    )
    said = Counter(leaf.where for leaf in imported.leaves)
    differ = (written - said) + (said - written)
    return sorted(differ, key=lambda place: (place.file, place.line, place.column))


def differences(imported: Imported) -> list[LeafFate]:
    """What the imported site says otherwise than the original, or not at all: all but understood, kept and secret."""
    return [leaf for leaf in imported.leaves if leaf.fate.kind in (Kind.TRANSLATED, Kind.DROPPED)]


def explained(imported: Imported) -> bool:
    """Whether every difference has a remark and everything else a key."""
    for leaf in imported.leaves:
        needs_remark = leaf.fate.kind in (Kind.TRANSLATED, Kind.DROPPED, Kind.REPLACED)
        needs_key = leaf.fate.kind in (Kind.UNDERSTOOD, Kind.TRANSLATED, Kind.PASSED, Kind.SECRET)
        if (needs_remark and not leaf.fate.remark) or (needs_key and not leaf.fate.key):
            return False
    return True
