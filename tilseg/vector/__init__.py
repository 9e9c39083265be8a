"""Polygons from elsewhere on the pixels of an image."""
