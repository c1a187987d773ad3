"""A deployed platform as its operator sees it: what is installed, what runs, who is there, what it logs."""
