"""The values files under `tests/data/helm_values`, and how tests import them."""

from __future__ import annotations

from pathlib import Path

from tidehub.importing.build import Imported, import_documents
from tidehub.importing.command import Done, import_files
from tidehub.importing.fates import Kind, LeafFate
from tidehub.importing.values_yaml import Document, read_values

VALUES = Path(__file__).parents[2] / "data" / "helm_values"
EXAMPLES = Path(__file__).parents[3] / "examples"

PANGEO = ("pangeo-daskhub.yaml",)
PROTOCOAST = (
    "protocoast-jhub.yaml",
    "protocoast-dask-gateway.yaml",
    "protocoast-jhub-secrets.yaml",
    "protocoast-dask-gateway-secrets.yaml",
)
PROTOCOAST_SHARED = (
    "protocoast-jhub.yaml",
    "protocoast-dask-gateway.yaml",
    "protocoast-values-secrets.yaml",
)
SEEDS = {
    "pangeo": PANGEO,
    "pangeo with its ingress": (*PANGEO, "pangeo-guide-ingress.yaml"),
    "pangeo as in the guide": ("pangeo-guide-inline.yaml",),
    "protocoast": PROTOCOAST,
    "protocoast, shared secrets": PROTOCOAST_SHARED,
    "protocoast as in the guide": (
        "protocoast-jhub.yaml",
        "protocoast-dask-gateway.yaml",
        "protocoast-guide-secrets-inline.yaml",
    ),
}
VARIED = tuple(
    path.name
    for path in sorted(VALUES.glob("*.yaml"))
    if not path.name.startswith(("pangeo-", "protocoast-"))
)


def documents(*names: str) -> list[Document]:
    return [read_values((VALUES / name).read_text(encoding="utf-8"), name) for name in names]


def imported(*names: str) -> Imported:
    return import_documents(documents(*names))


def from_text(text: str) -> Imported:
    return import_documents([read_values(text, "values.yaml")])


def tried(directory: Path, *names: str) -> Done:
    """An import that writes nothing."""
    return import_files([VALUES / name for name in names], directory, write_nothing=True)


def leaf(found: Imported, key: str) -> LeafFate:
    """The account of one value, by its dotted key in the file."""
    matching = [one for one in found.leaves if ".".join(str(part) for part in one.path) == key]
    assert len(matching) == 1, [".".join(map(str, one.path)) for one in found.leaves]
    return matching[0]


def fate(found: Imported, key: str) -> Kind:
    return leaf(found, key).fate.kind
