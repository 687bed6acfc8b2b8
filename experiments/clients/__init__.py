"""Other libraries in `ModelMerge-v0`, unmodified: one short file each, run by `make clients`."""
