"""Annotation: annotators, prompt, quality gate, checks of the whole table, review by people."""
