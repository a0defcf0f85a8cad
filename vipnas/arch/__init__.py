"""Architectures as values: of images, of clips, and their skeletons. No torch."""
