"""The explorer: a REST API and a page over one index, with its decoder or without."""
