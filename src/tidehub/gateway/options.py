"""The choices a user has when creating a cluster, and what they become. Pure.

Names and units are those of the seeds' deployments, so that notebooks written for them keep working:
`worker_cores` in cores, `worker_memory` in GiB (a number), `image` a reference with a tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tidehub.gateway.limits import workers_of
from tidehub.site.images import has_tag
from tidehub.site.units import about_size, format_cores, format_size

if TYPE_CHECKING:
    from tidehub.site.model.dask import Dask

GIB = 2**30


@dataclass(frozen=True)
class OptionField:
    """One choice. `kind`, `default`, `min` and `max` fit dask-gateway's Integer, Float and String fields."""

    name: str
    label: str
    kind: Literal["integer", "float", "string"]
    default: int | float | str
    min: int | float | None = None
    max: int | float | None = None


def fields(dask: Dask, *, images: bool = False) -> list[OptionField]:
    """The choices of a cluster. `images` adds the container image, which exists on Kubernetes only."""
    cores, memory = dask.worker.cores, dask.worker.memory
    found = [
        OptionField(
            "worker_cores", "Worker cores", "integer", int(cores.default), int(cores.min), int(cores.max)
        ),
        OptionField(
            "worker_memory",
            "Worker memory (GiB)",
            "float",
            memory.default / GIB,
            memory.min / GIB,
            memory.max / GIB,
        ),
    ]
    if images and dask.image.choice != "fixed":
        default = "" if dask.image.default == "profile" else dask.image.default
        found.append(OptionField("image", "Image", "string", default))
    return found


def to_config(dask: Dask, chosen: Mapping[str, Any], *, images: bool = False) -> dict[str, Any]:
    """dask-gateway traits for the choices (`worker_cores`, `worker_memory` in bytes, `image`).

    Absent choices take the site's defaults. Raises `ValueError` in words for the user: the limit, its value, and
    what is allowed.
    """
    known = {field.name for field in fields(dask, images=images)}
    for name in chosen:
        if name not in known:
            raise ValueError(_unknown(str(name), known))
    cores = _cores(dask, chosen.get("worker_cores", int(dask.worker.cores.default)))
    memory = _memory(dask, chosen.get("worker_memory", dask.worker.memory.default / GIB))
    row = workers_of(dask, cores, memory)
    if row.workers < 1:
        raise ValueError(
            f"A cluster cannot have a single worker of {format_cores(cores)} and {format_size(memory)}: "
            f"{row.bound_by} is {_limit(dask, row.bound_by)}, and the scheduler takes "
            f"{format_cores(dask.scheduler.cores)} and {format_size(dask.scheduler.memory)} of it. "
            "Choose smaller workers."
        )
    config: dict[str, Any] = {"worker_cores": cores, "worker_memory": memory}
    if "image" in known:
        image = _image(dask, chosen.get("image", ""))
        if image:
            config["image"] = image
    return config


def _cores(dask: Dask, value: Any) -> int:
    choice = dask.worker.cores
    allowed = f"this site allows {_range(f'{choice.min:g}', format_cores(choice.max))} (dask.worker.cores)"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise ValueError(f"worker_cores is {value!r}, which is not a whole number; {allowed}")
    if not choice.min <= value <= choice.max:
        raise ValueError(f"worker_cores is {value:g}; {allowed}")
    return int(value)


def _memory(dask: Dask, value: Any) -> int:
    choice = dask.worker.memory
    allowed = (
        f"this site allows {_range(format_size(choice.min), format_size(choice.max))} (dask.worker.memory)"
    )
    finite = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**33
    if not finite:
        raise ValueError(f"worker_memory is {value!r}, which is not a number of GiB; {allowed}")
    memory: int = round(value * GIB)
    if not choice.min <= memory <= choice.max:
        raise ValueError(f"worker_memory is {about_size(memory) if memory > 0 else value}; {allowed}")
    return memory


def _image(dask: Dask, value: Any) -> str:
    if (
        not isinstance(value, str)
        or len(value) > 500
        or any(not 32 < ord(character) < 127 for character in value)
    ):
        raise ValueError(
            "image must be the name of a container image, such as quay.io/pangeo/base-notebook:2026.01.1"
        )
    image = value or ("" if dask.image.default == "profile" else dask.image.default)
    if image and dask.image.choice == "tagged" and not has_tag(image):
        raise ValueError(
            f"image is {image}, without a tag; this site asks for one, as in {image}:TAG (dask.image)"
        )
    return image


def _range(low: str, high: str) -> str:
    return f"{low} to {high}" if low != high.split()[0] and low != high else f"only {high}"


def _limit(dask: Dask, key: str) -> str:
    owner = dask.per_user if ".per_user." in key else dask.cluster
    value = getattr(owner, key.rsplit(".", 1)[-1])
    return format_size(value) if key.endswith("memory") else f"{value:g}"


def _unknown(name: str, known: set[str]) -> str:
    if name == "image":
        return (
            "image cannot be chosen here: schedulers and workers have the same environment as your notebook. "
            f"You may choose: {', '.join(sorted(known))}"
        )
    return f"cluster option {name} does not exist; you may choose: {', '.join(sorted(known))}"
