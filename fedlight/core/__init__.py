"""fedlight.core."""
