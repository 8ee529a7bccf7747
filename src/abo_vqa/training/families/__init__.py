"""Families of models that LoRA can be trained on, one module each."""
