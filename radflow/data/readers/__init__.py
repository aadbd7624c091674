"""Data sets as they are released: one module each, and the archives and tables that they are read from."""
