"""Spoiled inputs for the command line: each run ends well, or in one line that names a place."""
