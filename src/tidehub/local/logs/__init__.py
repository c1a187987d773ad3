"""Logs on one machine: what users' programs write goes through pipes to one program of ours, which bounds it all."""
