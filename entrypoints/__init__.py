"""One thin program per MLproject entry point."""
