"""Quantities in the notations of the programs below us. Exact, or refused: a limit never changes on its way.

Sizes are `int` bytes, times `float` seconds, cores `float`. Facts, each held by a test against the real thing:

- JupyterHub 5.5 (`jupyterhub.traitlets.ByteSpecification`) and dask-gateway 2026.3 (`dask_gateway_server.traitlets.
  MemoryLimit`) read a number as bytes, and a text as a number and one of K, M, G, T: powers of 1024. `10Gi`, `10GB`,
  `10g` and a text of digits alone are errors, though the charts' schemas let them pass.
- Kubernetes quantities: `Ki`, `Mi`, ... are powers of 1024, `k`, `M`, `G`, ... powers of 1000; processors in
  thousandths (`500m`), nothing finer.
- Helm reads numbers in values as 64-bit floats and may write `1e+06`; texts go through untouched.
"""

from __future__ import annotations

from fractions import Fraction

_POWERS_OF_1024 = (("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10))
_BINARY = (("Ei", 2**60), ("Pi", 2**50), ("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))
_DECIMAL = (("E", 10**18), ("P", 10**15), ("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))
EXACT = 2**53
"""Whole numbers up to here are exact as 64-bit floats."""
CPU_PERIOD = 100_000
"""Microseconds over which the kernel counts a processor limit (its default)."""


def to_jupyterhub_memory(size: int) -> str | int:
    """`size` bytes for JupyterHub's `mem_limit` and `mem_guarantee`: `10G`, `512M`, or bytes where no suffix is exact.

    Raises `ValueError` for what no notation holds exactly: bytes that are not a multiple of 1024, from 2**53 on.
    """
    for suffix, factor in _POWERS_OF_1024:
        count, rest = divmod(_positive(size), factor)
        if count and not rest and count <= EXACT:
            return f"{count}{suffix}"
    if size > EXACT:
        raise ValueError(f"{size} bytes cannot be written exactly for JupyterHub or dask-gateway")
    return size


def to_dask_memory(size: int) -> str | int:
    """`size` bytes for dask-gateway's memory traits. The notation is JupyterHub's; see there."""
    return to_jupyterhub_memory(size)


def to_kubernetes_quantity(size: int) -> str:
    """`size` bytes as a Kubernetes quantity, the shortest exact one: `50Gi`, `10G`, `1234567`.

    For volumes and resources. Raises `ValueError` for a negative size.
    """
    best = str(_positive(size))
    for suffix, factor in (*_BINARY, *_DECIMAL):
        count, rest = divmod(size, factor)
        if count and not rest and len(text := f"{count}{suffix}") < len(best):
            best = text
    return best


def to_kubernetes_cpu(cores: float) -> str:
    """Cores as a Kubernetes quantity: `2`, `500m`. Raises `ValueError` below or between thousandths."""
    thousandths = Fraction(str(cores)) * 1000
    if thousandths <= 0 or thousandths.denominator != 1:
        raise ValueError(f"{cores:g} cores are not a whole number of thousandths")
    whole, rest = divmod(thousandths.numerator, 1000)
    return f"{thousandths.numerator}m" if rest else str(whole)


def to_jupyterhub_cpu(cores: float) -> float | int:
    """Cores for JupyterHub's `cpu_limit` and `cpu_guarantee` (floats), without a needless point."""
    return int(cores) if cores == int(cores) else cores


def to_dask_cores(cores: float) -> int:
    """Cores of a Dask process, for dask-gateway's `worker_cores`. Raises `ValueError` for parts of a core."""
    if cores != int(cores):
        raise ValueError(f"{cores:g} is not a whole number of cores")
    return int(cores)


def to_whole_seconds(seconds: float) -> int:
    """Seconds for settings that take whole ones (`cull.timeout`), rounded up: never shorter than what was said."""
    return -int(-seconds // 1)


def to_cgroup_cpu_max(cores: float) -> str:
    """Cores as the kernel's `cpu.max`: microseconds of processor time, and of the period they are counted in.

    The kernel takes no less than 1000 (sched-bwc.rst).
    """
    return f"{max(1000, round(cores * CPU_PERIOD))} {CPU_PERIOD}"


def to_cgroup_weight(cores: float) -> int:
    """Guaranteed cores as the kernel's `cpu.weight`, 1 to 10000 (cgroup-v2.rst): a hundred for each core."""
    return min(10_000, max(1, round(cores * 100)))


def split_image(image: str) -> tuple[str, str]:
    """Name and tag of a container image, as charts want them: `quay.io/x/y:main` gives `quay.io/x/y`, `main`.

    A digest belongs to the tag's place: the charts join both with `:`, so `y@sha256:0a` is split at its last `:`.
    The tag is empty where there is none; the port of a registry is not one.
    """
    head, slash, last = image.rpartition("/")
    name, colon, tag = last.rpartition(":")
    return (head + slash + name, tag) if colon else (image, "")


def _positive(size: int) -> int:
    if size < 0:
        raise ValueError(f"{size} bytes are negative")
    return size
