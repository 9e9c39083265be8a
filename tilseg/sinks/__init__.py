"""Where masks go: the committed `mask.zarr`, and exports that `tilseg.sink` knows by name."""
