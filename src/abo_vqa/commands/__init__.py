"""The commands beside the pipeline, one module each."""
