"""Every method through one protocol: tasks, methods, corpora, results."""
