"""All that knows about ranks: batch arithmetic, communicators, launching, threads."""
