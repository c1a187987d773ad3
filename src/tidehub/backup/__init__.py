"""Backups: one private file with what a platform cannot make again, and the way back."""
