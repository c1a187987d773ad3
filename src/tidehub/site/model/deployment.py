"""Where a site is deployed beyond one machine: Kubernetes, and the cloud below it."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from tidehub.site.model.quantities import Size
from tidehub.site.model.section import Flag, KubernetesName, Line, Section
from tidehub.site.units import QuantityError

Version = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+){1,3}([-+.][0-9A-Za-z.-]+)?$")]
HostName = Annotated[
    str,
    StringConstraints(
        pattern=r"^(?i:[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)(\.(?i:[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?))+$",
        max_length=253,
    ),
]

AnnotationName = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ),
]
AnnotationText = Annotated[str, StringConstraints(max_length=4096)]


def _ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise QuantityError(
            f"{text!r} is not an IP address", expected="an address such as 192.0.2.7"
        ) from None


IpAddress = Annotated[str, AfterValidator(_ip_address)]


class Gateway(Section):
    """A Gateway that others keep, and that lets this site's route in."""

    name: KubernetesName = Field(description="Name of the Gateway.")
    namespace: KubernetesName | None = Field(
        default=None, description="Its namespace, where that is not the platform's."
    )
    listener: KubernetesName | None = Field(
        default=None, description="Its listener for the site, for example https; none means all that fit."
    )
    redirect_listener: KubernetesName | None = Field(
        default=None, description="Its listener whose users are sent on to https, for example http."
    )


class Exposure(Section):
    """How the platform is reached from outside the cluster."""

    kind: Literal["ingress", "gateway-api", "load-balancer"] = Field(
        default="ingress", description="Through an Ingress, the Gateway API, or a load balancer of its own."
    )
    class_name: KubernetesName | None = Field(
        default=None,
        alias="class",
        description="IngressClass that serves the site, for example nginx, or GatewayClass of a Gateway made for it.",
    )
    gateway: Gateway | None = Field(
        default=None,
        description="With the Gateway API: the Gateway that serves the site, where it is there already.",
    )
    issuer: KubernetesName | None = Field(
        default=None,
        description="cert-manager ClusterIssuer that signs the certificate, for example letsencrypt-prod.",
    )
    tls_secret: KubernetesName | None = Field(
        default=None,
        description="Secret with certificate and key in the platform's namespace; none means one named like the host, "
        "and Let's Encrypt with a load balancer.",
    )
    address: IpAddress | None = Field(
        default=None, description="IP address that a load balancer or a Gateway made for the site asks for."
    )
    annotations: dict[AnnotationName, AnnotationText] = Field(
        default_factory=dict,
        description="Further annotations of the Ingress, Gateway, route or load balancer, for what serves it.",
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
