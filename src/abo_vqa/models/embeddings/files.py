"""The files of a folder of vision outputs; loads neither torch nor NumPy."""

VECTORS_FILE = "vectors.npy"
"""[N, T, V]: N images' outputs of T tokens and width V; bfloat16 is stored as uint16.

If images may differ in T, [S, V]: the S tokens of all images, one image after the other.
"""
PATHS_FILE = "paths.csv"
"""Columns image_path, in the order of the vectors, and error; if images may differ in T, also
tokens, T of each, and text, the number of its line in `TEXTS_FILE`."""
TEXTS_FILE = "texts.json"
"""The lines of text that belong to images' vectors, each once; see `VQAModel.split_encoded`."""
META_FILE = "meta.json"
"""What the outputs were computed with, their shape and their digest."""
