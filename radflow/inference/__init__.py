"""A trained classifier used on films: saved, loaded, served, and held to its golden film."""
