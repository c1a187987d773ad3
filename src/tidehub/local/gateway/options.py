"""The choices in the cluster widget, built from the site's policy (`tidehub.gateway.options`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from dask_gateway_server.options import Float, Integer, Options, Select

from tidehub.gateway import limits, options
from tidehub.login.entitled import Entitled, entitled
from tidehub.site.dask import Dask
from tidehub.site.model import Profile, Site


class NoClusters(web.HTTPForbidden):
    """The person may start no clusters. Words for the person; upstream passes the reason on."""

    def __init__(self, site: Site) -> None:
        contact = f" Questions: {site.site.contact}" if site.site.contact else ""
        self.words = f"Dask clusters are not open to your account at {site.site.name}.{contact}"
        super().__init__(reason=self.words)

    def __str__(self) -> str:
        return self.words


class SiteOptions(Options):  # type: ignore[misc]
    """One person's choices: upstream's fields for the widget; the checks and their words are the site's.

    Upstream's own messages (`worker_cores must be <= 2.000000, got 3`) name neither the unit nor the range.
    """

    def __init__(self, dask: Dask, person: Entitled) -> None:
        self._dask = dask
        self._profiles = [server.profile for server in person.servers]
        self._default = person.default.profile if person.default is not None else None
        fields = [_upstream_field(field) for field in options.fields(dask)]
        slugs = [profile.slug for profile in self._profiles]
        if self._default is not None:
            fields.append(Select("profile", options=slugs, default=self._default.slug, label="Profile"))
        super().__init__(*fields)

    def parse_options(self, request: Any) -> dict[str, Any]:
        """The person's choices, complete and checked. Raises `ValueError` in words for the person."""
        if not isinstance(request, Mapping):
            raise TypeError(f"cluster options must be a mapping, and this is {type(request).__name__}")
        chosen = dict(request)
        profile = self._profile(chosen)
        options.to_config(self._dask, chosen)
        defaults = {field.name: field.default for field in options.fields(self._dask)}
        return {**defaults, **chosen, "profile": profile.slug}

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

    def _profile(self, chosen: dict[str, Any]) -> Profile:
        """Takes `profile` and `image` out of `chosen`; an image stands for the profile that has it."""
        profiles = self._profiles
        if self._default is None:
            raise ValueError("no environment here is open to your account, so no cluster can run in one")
        image, slug = chosen.pop("image", ""), chosen.pop("profile", self._default.slug)
        if image:
            found = next((profile for profile in profiles if profile.image == image), None)
            if found is None:
                raise ValueError(
                    f"image is {image!r}, which no profile of yours has; on one machine a cluster runs in the "
                    f"environment of a profile. Choose profile: {', '.join(profile.slug for profile in profiles)}"
                )
            return found
        found = next((profile for profile in profiles if slug in (profile.slug, profile.name)), None)
        if found is None:
            known = ", ".join(profile.slug for profile in profiles)
            raise ValueError(f"there is no profile {slug!r}; you may choose: {known}")
        return found


def _upstream_field(field: options.OptionField) -> Any:
    kind = Integer if field.kind == "integer" else Float
    return kind(field.name, default=field.default, min=field.min, max=field.max, label=field.label)


def cluster_options(site: Site) -> Callable[[Any], SiteOptions]:
    """The options of each person, for the gateway's backend. They raise `NoClusters` for who may start none."""

    def of(user: Any) -> SiteOptions:
        person = entitled(site, user.name, user.groups)
        if person.dask is None:
            raise NoClusters(site)
        return SiteOptions(person.dask, person)

    return of
