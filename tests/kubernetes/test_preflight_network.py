"""Preflight over real HTTP: images in a registry, the identity provider, secrets. Each test makes one defect."""

from __future__ import annotations

from preflight_fixtures import provider, ready, ready_cluster, registry  # noqa: F401
from preflight_site import HOST, ReadySite

PACKAGES = {"jupyterhub": "5.5.4", "distributed": "2026.8.0"}


def test_what_images_carry_is_told(ready: ReadySite) -> None:  # noqa: F811
    told = next(one for one in ready.findings() if one.item == "images")
    assert any(
        "coast/notebook:2026.11: jupyterhub 5.5.4, distributed 2026.8.0" in line for line in told.evidence
    )
    assert "/token" in ready.registry.asked


def test_an_image_that_is_not_there(ready: ReadySite) -> None:  # noqa: F811
    image = _image(ready, f"{ready.registry.host}/coast/notebook:2027.01")
    ready.only("image-missing", "problem", f"the registry has no image {image}", "manifest unknown")


def test_an_image_behind_credentials(ready: ReadySite) -> None:  # noqa: F811
    image = _image(ready, ready.registry.add("secret/notebook:1", installed=PACKAGES))
    ready.registry.private.add("secret/notebook")
    ready.only("image-private", "warning", image, "imagePullSecrets")


def test_a_name_that_is_no_image(ready: ReadySite) -> None:  # noqa: F811
    ready.object("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] = "Registry/Hub:4.4.0"
    ready.only("image-name", "problem", "'Registry/Hub:4.4.0' is not a name of an image", "small letters")


def test_an_image_for_other_machines(ready: ReadySite) -> None:  # noqa: F811
    image = _image(ready, ready.registry.add("arm/notebook:1", installed=PACKAGES, architectures=("arm64",)))
    ready.only("image-architecture", "problem", image, "is for linux/arm64, and nodes are amd64")


def test_an_image_without_jupyterhub(ready: ReadySite) -> None:  # noqa: F811
    image = _image(ready, ready.registry.add("plain/python:3.12", installed={"distributed": "2026.8.0"}))
    ready.only("image-contents", "problem", f"{image} carries no jupyterhub", "distributed 2026.8.0")


def test_an_image_with_a_jupyterhub_of_another_generation(ready: ReadySite) -> None:  # noqa: F811
    image = _image(ready, ready.registry.add("old/notebook:1", installed={**PACKAGES, "jupyterhub": "1.5.0"}))
    ready.only("image-contents", "warning", f"{image} carries jupyterhub 1.5.0, and the hub is 5.5.0")


def test_an_image_too_large_to_look_through(ready: ReadySite) -> None:  # noqa: F811
    _image(ready, ready.registry.add("large/notebook:1", installed=PACKAGES, padding=10**10))
    ready.only("image-contents", "unknown", "which jupyterhub it carries is not known", "docker run")


def test_an_image_that_says_in_its_variables_what_it_carries(ready: ReadySite) -> None:  # noqa: F811
    declared = {"config": {"Env": ["JUPYTERHUB_VERSION=1.4.2"]}}
    _image(ready, ready.registry.add("told/notebook:1", declared=declared, padding=10**10))
    ready.only("image-contents", "warning", "carries jupyterhub 1.4.2")


def test_a_registry_that_is_not_reached(ready: ReadySite) -> None:  # noqa: F811
    image = _image(ready, "registry.example.net/coast/notebook:1")
    ready.only(
        "registry", "unknown", image, "registry.example.net was not reached", "nodes reach the registry"
    )


def test_an_image_at_a_registry_that_has_ended(ready: ReadySite) -> None:  # noqa: F811
    ready.object("Deployment")["spec"]["template"]["spec"]["containers"][0]["image"] = "k8s.gcr.io/pause:3.5"
    ready.only("image-moved", "warning", "k8s.gcr.io/pause:3.5", "registry.k8s.io")


def test_a_provider_that_is_not_reached(ready: ReadySite) -> None:  # noqa: F811
    ready.network.routes.clear()
    ready.only("identity-provider", "unknown", "login.example.org was not reached")


def test_a_provider_of_another_issuer(ready: ReadySite) -> None:  # noqa: F811
    ready.provider.changes["issuer"] = "https://login.example.org/realms/other"
    ready.only("identity-provider", "problem", "names another issuer", "byte for byte")


def test_no_discovery_at_the_issuer(ready: ReadySite) -> None:  # noqa: F811
    ready.provider.status = 404
    ready.only("identity-provider", "problem", "answers HTTP 404")


def test_endpoints_other_than_stated(ready: ReadySite) -> None:  # noqa: F811
    base = ready.provider.issuer
    ready.values["login"]["endpoints"] = {
        "authorize": f"{base}/authorize",
        "token": f"{base}/old-token",
        "userinfo": f"{base}/userinfo",
        "jwks": f"{base}/jwks",
    }
    ready.only(
        "identity-endpoints", "warning", f"token: {base}/old-token, and the provider says {base}/token"
    )


def test_a_redirect_address_that_is_not_registered(ready: ReadySite) -> None:  # noqa: F811
    ready.provider.clients["hub"] = "https://elsewhere.example.org/hub/oauth_callback"
    ready.only(
        "callback-registered", "problem", "does not know this redirect address", f"https://{HOST}/hub/"
    )


def test_a_client_that_is_not_registered(ready: ReadySite) -> None:  # noqa: F811
    ready.provider.clients.clear()
    ready.only("callback-registered", "problem", "does not know this client id")


def test_a_clock_of_the_provider_that_is_wrong(ready: ReadySite) -> None:  # noqa: F811
    ready.provider.server.clock = 600
    ready.only(
        "provider-clock", "problem", "the identity provider's clock is", "ahead of this machine's", "NTP"
    )


def test_a_secret_that_is_missing(ready: ReadySite) -> None:  # noqa: F811
    environ = {key: value for key, value in ready.context().environ.items() if "CRYPT" not in key}
    ready.only("secrets", "problem", "hub_crypt_key", "tidehub secrets create", environ=environ)


def _image(ready: ReadySite, image: str) -> str:  # noqa: F811
    """The profile's image."""
    ready.values["notebooks"]["profiles"][0]["image"] = image
    return image
