"""What tests share: tiny models, archives, workspaces, servers that speak vendors' protocols."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
