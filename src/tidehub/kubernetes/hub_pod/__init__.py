"""What runs inside the hub's pod: carried there as text by `hub.extraConfig`."""
