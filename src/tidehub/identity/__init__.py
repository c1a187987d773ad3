"""An OpenID Provider for trying out and for tests: `python -m tidehub.identity --config FILE`.

It issues claims in the shape of EGI Check-In, so that a site's own admission rule decides.
It stands without JupyterHub.
"""
