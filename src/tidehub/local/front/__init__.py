"""The front door: configurable-http-proxy, its address, its certificate and what it believes of its peers."""
