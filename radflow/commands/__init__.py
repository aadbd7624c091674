"""One module an entry point or tool: reads what it is told, and calls the rooms below."""
