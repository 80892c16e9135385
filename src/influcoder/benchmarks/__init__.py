"""Every method through the same protocol: tasks, methods, corpora, results."""
