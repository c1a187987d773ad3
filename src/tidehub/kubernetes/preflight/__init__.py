"""Is this cluster ready for this site? Items, each a question to the cluster or the network with a remedy.

`model` holds the types, `run` asks all items side by side, `report` says what was found. Every other module is a family
of items; they read and never write (a dry run at most). `edges/` are the network, the registry and the resolver.
"""
