"""Scores of short answers: pure functions over arrays of strings."""
