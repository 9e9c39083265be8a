"""Short training of small networks on pictures and class masks."""
