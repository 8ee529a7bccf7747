"""The files of the folder of vision outputs; loads neither torch nor NumPy."""

VECTORS_FILE = "vectors.npy"
"""[N, T, V]: N images' outputs of T tokens and width V; bfloat16 is stored as uint16."""
PATHS_FILE = "paths.csv"
"""Columns image_path, in the order of the vectors, and error."""
META_FILE = "meta.json"
"""What the outputs were computed with, their shape and their digest."""
