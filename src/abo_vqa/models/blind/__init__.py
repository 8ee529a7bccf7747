"""Baselines that never see an image."""
