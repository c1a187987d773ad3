"""The choices of a cluster where it runs in container images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dask_gateway_server.options import Select

from tidehub.gateway import limits, options
from tidehub.gateway.choices import SiteOptions


class ImageOptions(SiteOptions):
    """As on one machine, but for the environment: it is an image, which follows the notebook unless the site says
    otherwise. A notebook names its own image (DASK_GATEWAY__CLUSTER__OPTIONS__IMAGE), so what is said as `profile`
    was said by the user, and counts first.
    """

    images = True
    environments = "a cluster runs in the environment of a profile"

    @property
    def _follows(self) -> bool:
        return bool(self._dask.image.default == "profile")

    @property
    def _of_profiles_only(self) -> bool:
        return self._follows and self._dask.image.choice == "fixed"

    def _more_fields(self) -> list[Any]:
        # The client refuses a default of its configuration for which there is no field.
        found = list(dict.fromkeys(profile.image for profile in self._profiles if profile.image))
        if not self._of_profiles_only or not found:
            return []
        default = self._default.image if self._default is not None else None
        return [Select("image", options=found, default=default or found[0], label="Image")]

    def _settle(self, chosen: dict[str, Any]) -> dict[str, Any]:
        if not self._follows:
            return {}
        if "profile" in chosen:
            profile = self.named(chosen.pop("profile"))
            chosen.pop("image", None)
        elif self._of_profiles_only and chosen.get("image"):
            profile = self.with_image(chosen.pop("image"))
        elif chosen.get("image"):
            return {}
        else:
            chosen.pop("image", None)
            profile = self.named(None)
        return {"image": profile.image} if profile.image else {}

    def get_configuration(self, options_chosen: Mapping[str, Any], user: Any) -> dict[str, Any]:
        """dask-gateway's traits for the checked choices; what is asked for is also the limit."""
        chosen = dict(options_chosen)
        image = chosen.pop("image", "")
        config = {**limits.cluster_config(self._dask), **options.to_config(self._dask, chosen, images=True)}
        for process in ("scheduler", "worker"):
            for amount in ("cores", "memory"):
                config[f"{process}_{amount}_limit"] = config[f"{process}_{amount}"]
        if image:
            config["image"] = image
        return {**config, "groups": list(user.groups)}
