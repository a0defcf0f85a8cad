"""Launchers, data preparation and benchmarks. Run from the root of a checkout."""
