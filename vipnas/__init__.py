"""Neural architecture search for human pose estimation under a budget, in images and in video."""

__version__ = "0.1.0"
