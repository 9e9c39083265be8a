"""`tilseg view`: a local page over image, mask and regions, in tiles cut on demand."""
