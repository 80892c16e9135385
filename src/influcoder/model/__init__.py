"""A causal language model: loaded, tokenised, differentiated an example at a time, fine-tuned."""
