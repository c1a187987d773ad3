"""A platform through Helm: manifests, hooks and CRDs of every release, and the folder that `render` writes."""
