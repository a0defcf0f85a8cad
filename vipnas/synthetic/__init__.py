"""Synthetic people, scenes and videos."""
