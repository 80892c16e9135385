"""What is shown: the page, figures, terminal tables."""
