"""tidehub: JupyterHub and Dask Gateway for a research community, from one site file."""

__version__ = "0.1.0"
