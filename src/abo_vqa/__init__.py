"""Visual question answering on Amazon Berkeley Objects."""

# The only place that states it; pyproject.toml reads it here. Any Python reads this file, so it
# imports nothing.
__version__ = "0.2.0"
