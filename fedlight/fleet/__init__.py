"""fedlight.fleet."""
