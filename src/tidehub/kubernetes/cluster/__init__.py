"""The cluster's API behind one narrow port; `port` holds its types, `connection` the official client."""
