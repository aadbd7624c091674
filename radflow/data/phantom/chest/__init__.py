"""Phantom chest films in the layout of ChestX-ray14."""
