"""File formats, crops and codecs."""
