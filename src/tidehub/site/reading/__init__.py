"""From the text of a site file to one checked `Site`, with the place of every value."""
