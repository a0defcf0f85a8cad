"""The runtimes that run exported files."""
