"""The methods that benchmarks compare."""
