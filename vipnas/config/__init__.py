"""The sections of an experiment as plain dataclasses. No torch."""
