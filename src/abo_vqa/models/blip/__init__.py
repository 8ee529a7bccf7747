"""BLIP, with its own attention and decoding over the library's modules."""
