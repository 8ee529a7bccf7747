"""How the embedded sample is made: drawn products, a dirty catalogue, small trained checkpoints.

Nothing outside this package knows that the sample is drawn: the pipeline reads the same two
archives, and the same model classes, as on the real data.
"""
