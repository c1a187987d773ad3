"""dask-gateway-server on one machine: backend, options, authentication, dashboards."""
