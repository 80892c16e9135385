"""Benchmarks: every method through one protocol, on data none of them was fitted on."""
