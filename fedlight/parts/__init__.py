"""fedlight.parts."""
