"""The platform on one machine, in the site."""

from __future__ import annotations

from pydantic import Field

from tidehub.site.model.quantities import AnySize, Size
from tidehub.site.model.section import Line, Lines, Section

GIB = 2**30


class Tls(Section):
    """The operator's own certificate; picked up again when the files change."""

    certificate: Line = Field(description="File with the certificate chain, PEM, relative to the site file.")
    key: Line = Field(description="File with the private key, PEM, relative to the site file.")


class Machine(Section):
    """The platform on one machine."""

    address: Line = Field(
        default="127.0.0.1", description="Address to listen on; anything but loopback needs TLS."
    )
    port: int = Field(
        default=8000, ge=0, le=65535, strict=True, description="Port to listen on; 0 takes any free one."
    )
    tls: Tls | None = Field(
        default=None, description="Certificate and key files; none means plain HTTP, on loopback only."
    )
    scheduler_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        strict=True,
        description="Port for Dask clients outside this machine, on the machine's address; the connection is "
        "encrypted by certificates of each cluster. None: clients in notebooks only.",
    )
    trusted_proxies: Lines = Field(
        default=(),
        description="Addresses or networks of reverse proxies whose forwarded headers are trusted.",
    )
    reserve_memory: AnySize = Field(
        default=GIB, description="Memory kept for the system and the platform's own processes."
    )
    storage: Size | None = Field(
        default=None, description="Disk space for users' homes; homes are checked against it."
    )
    database_url: Line | None = Field(
        default=None,
        description="PostgreSQL address of the hub's database; none means a file in the state directory.",
    )
