"""While a model is being fine-tuned: its rows are weighted by their influence on validation queries."""
