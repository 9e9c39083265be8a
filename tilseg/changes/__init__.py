"""What changed from one map of classes to another: counts, the change mask, pictures, a page."""
