"""Changing a cluster: steps in order, each written down before it is done, each repeatable."""
