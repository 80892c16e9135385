"""Questions put to an index: search, exact re-check, selection."""
