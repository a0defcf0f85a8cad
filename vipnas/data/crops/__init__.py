"""Crops of persons: geometry, images, augmentation, loading."""
