"""What benchmarks write: tables, estimates, figures."""
