"""The training loop, its steps and what they learn from."""
