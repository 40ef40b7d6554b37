"""fedlight.tracking."""
