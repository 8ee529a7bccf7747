"""Annotation by a model of the profile, in this process."""
