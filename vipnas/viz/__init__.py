"""Pictures: poses, sheets, curves, fronts."""
