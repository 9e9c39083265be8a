"""Networks, and how they are loaded, run and measured. Importing this loads no torch."""
