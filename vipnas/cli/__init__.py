"""The command line, by theme."""
