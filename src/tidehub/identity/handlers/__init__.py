"""HTTP endpoints, thin: they read the request, ask the provider, and answer."""
