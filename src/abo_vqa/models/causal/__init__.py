"""Decoder-only vision-language models: an image's tokens stand in the language model's prompt."""
