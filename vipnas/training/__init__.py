"""The training loop, its steps, losses and checkpoints."""
