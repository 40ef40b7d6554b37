"""fedlight.data."""
