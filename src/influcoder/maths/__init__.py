"""Numbers only: no files, no models."""
