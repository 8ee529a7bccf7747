"""The files of a folder of vision outputs; loads neither torch nor NumPy.

`vectors.npy` holds [N, T, V]: N images' outputs of T tokens and width V; bfloat16 is stored as
uint16. If images may differ in T, [S, V]: the S tokens of all images, one image after the other.
Past `SHARD_BYTES` there are several files of whole images instead, and a list of them; see
`abo_vqa.core.vector_files`.
"""

SHARD_BYTES = 4 * 2**30
"""The vectors that one file holds at most: what object storage takes in one upload (5 GiB on S3),
and what is sent again after a broken connection."""
UPLOADED_AT_A_TIME = 3
"""Files that are on the disk at most where they go to object storage: one on its way, one complete,
one begun."""
PATHS_FILE = "paths.csv"
"""Columns image_path, in the order of the vectors, and error; if images may differ in T, also
tokens, T of each, and text, the number of its line in `TEXTS_FILE`."""
TEXTS_FILE = "texts.json"
"""The lines of text that belong to images' vectors, each once; see `VQAModel.split_encoded`."""
META_FILE = "meta.json"
"""What the outputs were computed with, their shape and their digest."""
