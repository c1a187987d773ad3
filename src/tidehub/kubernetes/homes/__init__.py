"""Users' homes on a cluster: which PVC is whose, how a hub finds it, and how an operator puts it right."""
