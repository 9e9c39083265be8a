"""Where an image is segmented: tissue, regions of interest, and what they say of each pixel."""
