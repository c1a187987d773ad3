"""What a pod's server loads: what its image can use, and never at the price of the server."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tidehub.local import notebook_side

HERE = Path(notebook_side.__file__).parent
PACKAGES = ("dask_gateway", "dask_labextension", "jupyter_server", "jupyter_server_proxy")


@pytest.fixture
def pod_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The file in a directory as in a pod, with stand-ins for the two that it starts; each notes its start."""
    folder = tmp_path / "notebook"
    folder.mkdir()
    shutil.copy(HERE / "pod_server.py", folder)
    for name, start in (
        ("busy_kernels", "_load_jupyter_server_extension"),
        ("dask_dashboards", "load_on_kubernetes"),
    ):
        (folder / f"{name}.py").write_text(f"def {start}(app):\n    app.started.append({name!r})\n")
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("pod_server", folder / "pod_server.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("busy_kernels", "dask_dashboards"):
        sys.modules.pop(name, None)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that has the packages of the Dask panel."""
    for name in PACKAGES:
        (tmp_path / "image" / name).mkdir(parents=True)
        (tmp_path / "image" / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "image"))


@pytest.fixture
def app() -> Any:
    return SimpleNamespace(
        started=[], web_app=SimpleNamespace(settings={}), log=logging.getLogger("test_notebook_pod_server")
    )


@pytest.mark.usefixtures("packages")
def test_an_image_with_the_packages_gets_both_and_once(pod_server: ModuleType, app: Any) -> None:
    pod_server._load_jupyter_server_extension(app)
    pod_server.load_jupyter_server_extension(app)
    assert app.started == ["busy_kernels", "dask_dashboards"]


def test_an_image_without_them_has_nothing_to_say(
    pod_server: ModuleType, app: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in PACKAGES else find(name, *more)
    )
    pod_server._load_jupyter_server_extension(app)
    assert app.started == ["busy_kernels"]
    assert not caplog.records


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    "fault", ["import no_such_module_of_an_old_image", "def load_on_kubernetes(app): 1 / 0", ""]
)
def test_what_an_image_is_too_old_for_is_logged_and_the_rest_goes_on(
    pod_server: ModuleType, app: Any, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    folder = Path(str(pod_server.__file__)).parent
    (folder / "dask_dashboards.py").write_text(fault)
    (folder / "busy_kernels.py").write_text("raise SystemError('of another server')")
    pod_server._load_jupyter_server_extension(app)
    assert [record.getMessage() for record in caplog.records] == [
        f"tidehub: {name} does not work in this image" for name in ("busy_kernels", "dask_dashboards")
    ]


@pytest.mark.usefixtures("packages")
def test_a_site_without_a_gateway_has_no_panel(pod_server: ModuleType, app: Any) -> None:
    Path(str(pod_server.__file__)).with_name("dask_dashboards.py").unlink()
    pod_server._load_jupyter_server_extension(app)
    assert app.started == ["busy_kernels"]
