"""Data in: file formats, crops, codecs."""
