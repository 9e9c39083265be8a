"""Readers, one file a format; `tilseg.source` knows when to import which."""
