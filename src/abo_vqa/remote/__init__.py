"""Clients of services that cost money or have quotas; no module here knows a prompt."""
