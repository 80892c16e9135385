"""Indexes: embeddings of a pool, built, changed, filtered and searched."""
