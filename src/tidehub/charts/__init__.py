"""Upstream Helm charts as verified local archives: where they come from, what is in them, what values they take."""
