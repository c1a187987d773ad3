"""The choices in the cluster widget, built from the site's policy (`tidehub.gateway.options`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_gateway_server.options import Float, Integer, Options, Select

from tidehub.gateway import limits, options
from tidehub.site.model import Profile, Site


class SiteOptions(Options):  # type: ignore[misc]
    """Upstream's fields for the widget; the checks and their words are the site's.

    Upstream's own messages (`worker_cores must be <= 2.000000, got 3`) name neither the unit nor the range.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        fields = [_upstream_field(field) for field in options.fields(site.dask)]
        slugs = [profile.slug for profile in site.notebooks.profiles]
        default = site.notebooks.default_profile.slug
        fields.append(Select("profile", options=slugs, default=default, label="Profile"))
        super().__init__(*fields)

    def parse_options(self, request: Any) -> dict[str, Any]:
        """The person's choices, complete and checked. Raises `ValueError` in words for the person."""
        if not isinstance(request, Mapping):
            raise TypeError(f"cluster options must be a mapping, and this is {type(request).__name__}")
        chosen = dict(request)
        profile = self._profile(chosen)
        options.to_config(self._site.dask, chosen)
        defaults = {field.name: field.default for field in options.fields(self._site.dask)}
        return {**defaults, **chosen, "profile": profile.slug}

    def get_configuration(self, options_chosen: Mapping[str, Any], user: Any) -> dict[str, Any]:
        """dask-gateway's traits for the checked choices."""
        chosen = dict(options_chosen)
        profile = chosen.pop("profile")
        return {
            **limits.cluster_config(self._site.dask),
            **options.to_config(self._site.dask, chosen),
            "profile": profile,
        }

    def _profile(self, chosen: dict[str, Any]) -> Profile:
        """Takes `profile` and `image` out of `chosen`; an image stands for the profile that has it."""
        profiles = self._site.notebooks.profiles
        image, slug = (
            chosen.pop("image", ""),
            chosen.pop("profile", self._site.notebooks.default_profile.slug),
        )
        if image:
            found = next((profile for profile in profiles if profile.image == image), None)
            if found is None:
                raise ValueError(
                    f"image is {image!r}, which no profile has; on one machine a cluster runs in the environment of a "
                    f"profile. Choose profile: {', '.join(profile.slug for profile in profiles)}"
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


def cluster_options(site: Site) -> SiteOptions:
    """The options object of the gateway's backend."""
    return SiteOptions(site)
