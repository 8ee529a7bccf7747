"""Work that outlives the machine: saved to a folder elsewhere, restored into a new clone."""
