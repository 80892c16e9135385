"""What the command line does, as functions: folders in, folders out."""
