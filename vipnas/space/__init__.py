"""Search spaces. No torch."""
