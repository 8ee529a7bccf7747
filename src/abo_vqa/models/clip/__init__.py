"""CLIP as a ranker of candidate answers."""
