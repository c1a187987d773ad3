"""Existing Helm values become a site file: daskhub, jupyterhub and dask-gateway charts."""
