"""What the page shows, as plain values that templates write out: a file a part of the page."""
