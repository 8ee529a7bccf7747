"""Annotation: annotators, prompt, quality filter, checks of the whole table, review by people."""
