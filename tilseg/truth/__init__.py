"""Class maps to compare: masks of numbers or colours, and polygons burnt on a mask's grid."""
