"""Read the labels of other programs, for annotation files in COCO form."""
