"""Values of each release and the objects beside them, from the site alone. Pure."""
