"""Benchmarks: `python -m tools.benchmarks.NAME`; their results are in experiments/reports."""
