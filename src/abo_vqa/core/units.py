"""Bytes and shares in words."""

GB = 1e9


def format_bytes(count: float) -> str:
    """Format a number of bytes for people.

    Args:
        count: the number.
    """
    return f"{count / GB:.1f} GB" if count >= GB / 10 else f"{count / 1e6:.1f} MB"


def format_level(confidence: float) -> str:
    """Format an interval's confidence without rounding it: 95%, 99.9%.

    Args:
        confidence: e.g. 0.95.
    """
    return f"{100 * confidence:g}%"
