"""Examples: what they are, how they are read from files and URLs, how they are stored."""
