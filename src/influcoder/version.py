"""The version of this package, which every folder it writes records."""

__version__ = "0.2.0"
