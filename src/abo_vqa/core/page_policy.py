"""The content security policy of a page that is written to a file."""

from __future__ import annotations

import base64
import hashlib


def page_policy(style: str, script: str, beside: str = "") -> str:
    """Return a policy by which a page runs its own style sheet and script, and nothing else.

    Names, questions and answers are other people's text. Templates escape it; if one ever failed
    to, what got into the page still couldn't run, be sent anywhere, or load anything.

    Args:
        style: the text between <style> and </style>, to the byte.
        script: the text between <script> and </script>, likewise.
        beside: the kinds of files beside the page that it also loads, of "img" and "script",
            separated by a blank.
    """
    # A page on a disk has no origin that 'self' could stand for.
    image, scripts = (
        " 'self' file:" if kind in beside.split() else "" for kind in ("img", "script")
    )
    return (
        f"default-src 'none'; img-src data:{image}; style-src {_digest(style)}; "
        f"script-src {_digest(script)}{scripts}; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
