"""`python -m influcoder`."""

from influcoder.cli import main

main()
