"""Checks across keys: what no schema sees. Pure."""
