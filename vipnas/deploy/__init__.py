"""What comes after the search: prediction and export."""
