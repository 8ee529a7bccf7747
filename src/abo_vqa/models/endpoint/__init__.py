"""Hosted models, or models of another server, as baselines: an image and a question, one word."""
