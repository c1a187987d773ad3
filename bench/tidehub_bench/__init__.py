"""Measures tidehub and the plain upstream programs side by side on this machine."""
