"""What travels as text into the pod of Dask Gateway's server, beside the policy: nothing of ours is installed there.

The pod has dask-gateway-server 2022.6 to 2026.3, what that needs (aiohttp, traitlets, kubernetes-asyncio), and
Python 3.10 to 3.13. `values/gateway_code.py` puts the text together.
"""
