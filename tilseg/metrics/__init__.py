"""How well a map of classes agrees with the truth, counted block by block as on the whole."""
