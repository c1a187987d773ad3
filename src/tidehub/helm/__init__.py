"""Helm behind one port: `engine` has its types, `command_line` the adapter to the `helm` program."""
