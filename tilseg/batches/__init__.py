"""Many images, one folder of results: which images, what they are called, and how they ended."""
