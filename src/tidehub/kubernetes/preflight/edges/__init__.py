"""Where items meet the network: HTTP, the resolver, the clock, container registries."""
