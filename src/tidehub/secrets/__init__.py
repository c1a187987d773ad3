"""Secrets: each declared once, kept where only its owner reads, never shown.

`site_secrets` is what other modules use: the secrets of a site, from wherever the operator keeps them.
"""
