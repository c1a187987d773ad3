"""What each key of the site becomes: the hub's configuration, Helm values, one machine. Pure."""
