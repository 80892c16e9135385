"""The demo world: a small real decoder, the pool it was fine-tuned on, and questions about it."""
