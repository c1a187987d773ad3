"""Where a site is deployed beyond one machine: Kubernetes, and the cloud below it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from tidehub.site.quantities import Size
from tidehub.site.section import KubernetesName, Line, Section, as_bool

Flag = Annotated[bool, BeforeValidator(as_bool)]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+){1,3}([-+.][0-9A-Za-z.-]+)?$")]
HostName = Annotated[
    str,
    StringConstraints(
        pattern=r"^(?i:[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)(\.(?i:[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?))+$",
        max_length=253,
    ),
]


class Exposure(Section):
    """How the platform is reached from outside the cluster."""

    kind: Literal["ingress", "gateway-api", "load-balancer"] = Field(
        default="ingress", description="Through an Ingress, the Gateway API, or a load balancer of its own."
    )
    class_name: KubernetesName | None = Field(
        default=None,
        alias="class",
        description="IngressClass or GatewayClass that serves the site, for example nginx.",
    )
    issuer: KubernetesName | None = Field(
        default=None,
        description="cert-manager ClusterIssuer that signs the certificate, for example letsencrypt-prod.",
    )


class Kubernetes(Section):
    """The platform on a Kubernetes cluster."""

    namespace: KubernetesName = Field(default="daskhub", description="Namespace that holds the platform.")
    release_set: Line | None = Field(
        default=None,
        description="Set of versions tested together; none means the one this tidehub was released with.",
    )
    model: Literal["split", "daskhub"] = Field(
        default="split", description="Two releases (jupyterhub and dask-gateway), or the daskhub meta-chart."
    )
    charts: dict[Literal["jupyterhub", "dask-gateway", "daskhub"], Version] = Field(
        default_factory=dict, description="Chart versions that replace those of the release set, one a chart."
    )
    exposure: Exposure = Field(
        default=Exposure(), description="How the platform is reached from outside the cluster."
    )
    user_scheduler: Flag = Field(
        default=False,
        description="Whether the jupyterhub chart runs its own kube-scheduler to pack users on few nodes.",
    )


class Dns(Section):
    """The site's name in the DNS."""

    provider: Literal["nsupdate"] = Field(
        default="nsupdate", description="Service that holds the name: nsupdate.fedcloud.eu."
    )
    host: HostName = Field(description="Host name that points to the platform.")


class Cloud(Section):
    """The cloud project that a cluster is made in."""

    site: Line = Field(description="Name of the cloud site, for example CESNET-MCC.")
    vo: Line | None = Field(
        default=None, description="Virtual organisation whose project it is, for example vo.pangeo.eu."
    )
    project_id: Line | None = Field(default=None, description="OpenStack project id.")
    network: Line | None = Field(default=None, description="OpenStack network that the machines join.")
    storage: Size | None = Field(
        default=None, description="Volume storage that the project may use; homes are checked against it."
    )


class Infrastructure(Section):
    """What has to exist before the platform."""

    dns: Dns | None = Field(default=None, description="The site's name in the DNS.")
    cloud: Cloud | None = Field(default=None, description="The cloud project that a cluster is made in.")
