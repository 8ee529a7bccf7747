"""Talking to services that cost money or have quotas; nothing here knows a prompt."""
