"""The REST API: thin functions over the `Explorer`, a file a noun."""
