"""File formats of annotations, detections, results and skeletons."""
