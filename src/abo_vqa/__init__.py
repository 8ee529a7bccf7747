"""Visual question answering on Amazon Berkeley Objects."""
