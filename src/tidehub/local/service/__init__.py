"""The platform as a unit of systemd: of the system, or of an ordinary user's own manager."""
