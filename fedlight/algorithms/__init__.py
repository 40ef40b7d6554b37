"""fedlight.algorithms."""
