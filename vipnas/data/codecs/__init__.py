"""Encode keypoints as heatmaps, and decode them."""
