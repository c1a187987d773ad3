"""The software of the tests' node: what a change makes anew, and what counts as there. Nothing is built here."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import node_images
import node_software
import oci_layers
import pytest

from tidehub.local.software import layout


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A software root of the test's own."""
    monkeypatch.setenv("TIDEHUB_SOFTWARE", str(tmp_path / "software"))
    return tmp_path / "software"


def names() -> dict[str, str]:
    """The directories of all parts by what they are."""
    found = {name: node_software.layer_directory(name).name for name in node_images.RECIPES}
    return found | {
        "base": node_software.base_directory().name,
        "programs": node_software.programs_directory().name,
        "store": node_software.store_directory().name,
    }


def changed(before: dict[str, str]) -> set[str]:
    """Which parts are to be made anew."""
    return {name for name, place in names().items() if place != before[name]}


def test_a_lock_file_makes_anew_its_image_and_the_store(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names()
    lock = tmp_path / "hub.txt"
    lock.write_text("another==1\n")
    hub = replace(node_images.RECIPES["hub"], files={"hub.txt": lock})
    monkeypatch.setattr(node_images, "RECIPES", {**node_images.RECIPES, "hub": hub})
    assert changed(before) == {"hub", "store"}


def test_another_start_makes_no_layer_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names()
    hub = replace(node_images.RECIPES["hub"], command=("jupyterhub",))
    monkeypatch.setattr(node_images, "RECIPES", {**node_images.RECIPES, "hub": hub})
    assert changed(before) == {"store"}


def test_another_package_of_debian_makes_all_images_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names()
    monkeypatch.setattr(node_images, "BASE_PACKAGES", (*node_images.BASE_PACKAGES, "less"))
    assert changed(before) == {*node_images.RECIPES, "base", "store"}


def test_the_images_are_those_that_the_release_set_names(root: Path) -> None:
    charts = node_images.release().versions.charts
    every = [name for one in node_images.RECIPES.values() for name in one.names]
    assert len(every) == len(set(every))
    assert f"quay.io/jupyterhub/k8s-hub:{charts['jupyterhub']}" in every
    assert f"ghcr.io/dask/dask-gateway-server:{charts['dask-gateway']}" in every


def test_what_is_half_built_does_not_count(root: Path) -> None:
    assert node_software.find() is None
    for part in (node_software.programs_directory(), node_software.store_directory()):
        part.mkdir(parents=True)
    assert node_software.find() is None, "neither has its marker"
    for part in (node_software.programs_directory(), node_software.store_directory()):
        (part / layout.MARKER).write_text("{}")
    assert node_software.find() is not None


@pytest.mark.root
def test_what_a_script_removed_is_gone_in_the_layer_too(tmp_path: Path) -> None:
    """As overlayfs notes it: a device without a number, and an attribute of a folder that was made anew."""
    upper = tmp_path / "upper"
    (upper / "etc" / "new").mkdir(parents=True)
    os.mknod(upper / "etc" / "gone", 0o020000, 0)
    os.setxattr(upper / "etc" / "new", "trusted.overlay.opaque", b"y")
    oci_layers._white_out(upper)
    oci_layers._pack(upper, tmp_path)
    layer = oci_layers.Layer.read(tmp_path)
    assert layer.digest == hashlib.sha256(layer.archive.read_bytes()).hexdigest()
    with tarfile.open(layer.archive) as archive:
        assert {"./etc/.wh.gone", "./etc/new/.wh..wh..opq"} <= set(archive.getnames())
        assert "./etc/gone" not in archive.getnames()


def test_a_layout_names_every_image_and_its_layers(tmp_path: Path) -> None:
    archive = tmp_path / "layer.tar"
    archive.write_bytes(b"contents")
    layer = oci_layers.Layer(archive, hashlib.sha256(b"contents").hexdigest())
    image = oci_layers.Image(("one:1", "one:2"), (layer,), {"User": "1000"})
    oci_layers.write_layout(tmp_path / "layout", [image], "amd64")
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert [one["annotations"]["io.containerd.image.name"] for one in index["manifests"]] == [
        "one:1",
        "one:2",
    ]
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"].removeprefix("sha256:")).read_text())
    config = json.loads((blobs / manifest["config"]["digest"].removeprefix("sha256:")).read_text())
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]] == [f"sha256:{layer.digest}"]
    assert (blobs / layer.digest).read_bytes() == b"contents"
    for blob in blobs.iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
