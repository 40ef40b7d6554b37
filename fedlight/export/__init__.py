"""fedlight.export."""
