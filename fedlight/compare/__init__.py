"""Many paired runs from one file: which there are, running them, and handing them to the report."""
