"""The gate before Dask's dashboards, on both targets: who may see which, and the way there."""
