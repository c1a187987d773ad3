"""The target Kubernetes: a site as releases of the upstream charts. Rendered purely, applied thinly, observed."""
