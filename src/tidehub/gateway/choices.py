"""The choices in the cluster widget, built from the site's policy (`tidehub.gateway.options`).

This runs inside dask-gateway's server: on one machine, and carried into the server's pod on Kubernetes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web
from dask_gateway_server.options import Float, Integer, Options, Select, String

from tidehub.gateway import limits, options
from tidehub.login.entitled import Entitled, entitled

if TYPE_CHECKING:
    from tidehub.site.model import Profile, Site
    from tidehub.site.model.dask import Dask


class NoClusters(web.HTTPForbidden):
    """The user may start no clusters. Words for the user; upstream passes the reason on."""

    def __init__(self, site: Site) -> None:
        contact = f" Questions: {site.site.contact}" if site.site.contact else ""
        self.words = f"Dask clusters are not open to your account at {site.site.name}.{contact}"
        super().__init__(reason=self.words)

    def __str__(self) -> str:
        return self.words


class SiteOptions(Options):  # type: ignore[misc]
    """One user's choices: upstream's fields for the widget; the checks and their words are the site's.

    Upstream's own messages (`worker_cores must be <= 2.000000, got 3`) name neither the unit nor the range.
    """

    images = False
    """Whether clusters run in container images."""
    environments = "on one machine a cluster runs in the environment of a profile"

    def __init__(self, dask: Dask, allowed: Entitled) -> None:
        self._dask = dask
        self._profiles = [server.profile for server in allowed.servers]
        self._default = allowed.default.profile if allowed.default is not None else None
        fields = [upstream_field(field) for field in options.fields(dask, images=self.images)]
        super().__init__(*fields, *self._more_fields())

    def _more_fields(self) -> list[Any]:
        if self._default is None:
            return []
        slugs = [profile.slug for profile in self._profiles]
        return [Select("profile", options=slugs, default=self._default.slug, label="Profile")]

    def parse_options(self, request: Any) -> dict[str, Any]:
        """The user's choices, complete and checked. Raises `ValueError` in words for the user."""
        if not isinstance(request, Mapping):
            raise TypeError(f"cluster options must be a mapping, and this is {type(request).__name__}")
        chosen = dict(request)
        settled = self._settle(chosen)
        options.to_config(self._dask, chosen, images=self.images)
        defaults = {field.name: field.default for field in options.fields(self._dask, images=self.images)}
        return {**defaults, **chosen, **settled}

    def get_configuration(self, options_chosen: Mapping[str, Any], user: Any) -> dict[str, Any]:
        """dask-gateway's traits for the checked choices."""
        chosen = dict(options_chosen)
        profile = chosen.pop("profile")
        return {
            **limits.cluster_config(self._dask),
            **options.to_config(self._dask, chosen),
            "profile": profile,
            "groups": list(user.groups),
        }

    def _settle(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """Takes `profile` and `image` out of `chosen`; an image stands for the profile that has it."""
        image, slug = chosen.pop("image", ""), chosen.pop("profile", None)
        return {"profile": (self.with_image(image) if image else self.named(slug)).slug}

    def named(self, slug: Any) -> Profile:
        """The profile of that slug or name that is open to the user; their default for None."""
        if self._default is None:
            raise ValueError("no environment here is open to your account, so no cluster can run in one")
        if slug is None:
            return self._default
        for profile in self._profiles:
            if slug in (profile.slug, profile.name):
                return profile
        raise ValueError(f"profile {slug!r} does not exist; you may choose: {self._known()}")

    def with_image(self, image: Any) -> Profile:
        """The profile with that image that is open to the user."""
        if self._default is None:
            raise ValueError("no environment here is open to your account, so no cluster can run in one")
        for profile in self._profiles:
            if profile.image == image:
                return profile
        raise ValueError(
            f"image is {image!r}, which no profile of yours has; {self.environments}. "
            f"Choose profile: {self._known()}"
        )

    def _known(self) -> str:
        return ", ".join(profile.slug for profile in self._profiles)


def upstream_field(field: options.OptionField) -> Any:
    """dask-gateway's own field, for the widget and its first checks."""
    if field.kind == "string":
        return String(field.name, default=field.default, label=field.label)
    kind = Integer if field.kind == "integer" else Float
    return kind(field.name, default=field.default, min=field.min, max=field.max, label=field.label)


def cluster_options(site: Site, choices: type[SiteOptions] = SiteOptions) -> Callable[[Any], SiteOptions]:
    """The options of each user, for the gateway's backend. They raise `NoClusters` for who may start none."""

    def of(user: Any) -> SiteOptions:
        allowed = entitled(site, user.name, user.groups)
        if allowed.dask is None:
            raise NoClusters(site)
        return choices(allowed.dask, allowed)

    return of
