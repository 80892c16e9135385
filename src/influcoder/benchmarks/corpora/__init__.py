"""The texts that benchmarks are run on."""
