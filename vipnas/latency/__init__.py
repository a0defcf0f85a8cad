"""Measured and predicted latency."""
