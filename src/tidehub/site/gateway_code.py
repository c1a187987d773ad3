"""The choices of a Dask cluster as Python for dask-gateway's `extraConfig`. Pure.

The charts have no values for them. dask-gateway runs the entries of `extraConfig` in the order of their names.
"""

from __future__ import annotations

from tidehub.site.dask import Dask

ORDER_COMMANDS, ORDER_LIMITS, ORDER_OPTIONS = "00-commands", "10-limits", "20-options"
GIB = 2**30

_CODE = """\
from dask_gateway_server.options import {kinds}


def tidehub_options(options):
    config = {{"worker_cores": options.worker_cores, "worker_memory": round(options.worker_memory * 2**30)}}
{image_check}    return config


c.Backend.cluster_options = Options(
    Integer("worker_cores", {cores.default:g}, min={cores.min:g}, max={cores.max:g}, label="Worker cores"),
    Float("worker_memory", {memory[2]!r}, min={memory[0]!r}, max={memory[1]!r}, label="Worker memory (GiB)"),
{image}    handler=tidehub_options,
)
"""
_TAG = """\
    last = options.image.rpartition("/")[2]
    if ":" not in last.rstrip(":"):
        raise ValueError("image is " + repr(options.image) + ", without a tag; this site asks for one (dask.image)")
"""


def options_code(dask: Dask) -> str:
    """Python that offers the site's choices, under the names and in the units that people know.

    Nothing in it comes from outside but numbers and an image's name, which is written as a Python text.
    """
    memory = tuple(value / GIB for value in dask.worker.memory.as_tuple())
    free = dask.image.choice != "fixed"
    image = check = ""
    if free:
        default = "" if dask.image.default == "profile" else dask.image.default
        image = f'    String("image", default={default!r}, label="Image"),\n'
        taken = '    if options.image:\n        config["image"] = options.image\n'
        tag = "".join(f"    {line}\n" for line in _TAG.splitlines()) if dask.image.choice == "tagged" else ""
        check = taken.replace('        config["image"]', f'{tag}        config["image"]')
    kinds = "Float, Integer, Options, String" if free else "Float, Integer, Options"
    return _CODE.format(kinds=kinds, image=image, image_check=check, cores=dask.worker.cores, memory=memory)
