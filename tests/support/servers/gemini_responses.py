"""Requests and responses of the Gemini REST protocol, and what can be wrong in responses.

Responses depend only on the product in the prompt, so that a run that meets faults ends with the
same pairs as one that doesn't.
"""

from __future__ import annotations

import base64
import json
import random
import re
import zlib
from typing import Any

IMAGE_TOKENS = 258


def product_in(body: dict[str, Any]) -> dict[str, str]:
    """The catalogue data in a request: the first JSON object among its text lines."""
    for line in user_text(body).splitlines():
        if line.startswith("{"):
            return dict(json.loads(line))
    return {}


def user_text(body: dict[str, Any]) -> str:
    parts = body["contents"][-1]["parts"]
    return "\n".join(part["text"] for part in parts if "text" in part)


def system_text(body: dict[str, Any]) -> str:
    instruction = body.get("systemInstruction") or body.get("system_instruction") or {}
    return "\n".join(part.get("text", "") for part in instruction.get("parts", []))


def image_in(body: dict[str, Any]) -> bytes:
    """The image in a request."""
    part = next(p for p in body["contents"][-1]["parts"] if "text" not in p)
    inline = part.get("inlineData") or part["inline_data"]
    return base64.b64decode(inline["data"].replace("-", "+").replace("_", "/"))  # either alphabet


def all_pairs(product: dict[str, str]) -> list[dict[str, str]]:
    """All that the model knows about a product, always in the same order."""
    kind = product.get("product_type", "thing").split("_")[-1].lower()
    dice = random.Random(zlib.crc32(json.dumps(product, sort_keys=True).encode()))
    color = dice.choice(["red", "green", "blue", "white"])
    known = [
        (f"What color is the {kind}?", color),
        ("How many items are shown?", dice.choice(["one", "two", "three"])),
        (f"What is the {kind} made of?", dice.choice(["wood", "metal", "glass"])),
        (f"Is the {kind} striped?", dice.choice(["yes", "no"])),
        ("Where does the light come from?", dice.choice(["left", "right"])),
        (f"What shape does the {kind} have?", dice.choice(["round", "square"])),
        ("What pattern can be seen?", dice.choice(["plain", "dotted"])),
    ]
    return [{"question": question, "answer": answer} for question, answer in known]


def requested_pairs(body: dict[str, Any]) -> list[dict[str, str]]:
    """The pairs that an obedient model would give: so many, and none that exist already."""
    text = user_text(body)
    more = re.search(r"Write exactly (\d+) more", text)
    wanted = more or re.search(r"Write exactly (\d+) question", system_text(body))
    taken = json.loads(text.splitlines()[3]) if more else []
    fresh = [pair for pair in all_pairs(product_in(body)) if pair["question"] not in taken]
    return fresh[: int(wanted[1]) if wanted else 3]


def word_for(body: dict[str, Any]) -> str:
    """The answer to a question about an image; "" for a request that is about a product."""
    if product_in(body):
        return ""
    seen = user_text(body).encode() + image_in(body)
    return random.Random(zlib.crc32(seen)).choice(["red", "blue", "two", "yes", "wood"])


def count_tokens(body: dict[str, Any]) -> int:
    """Input tokens: four letters per token, and those of the image."""
    parts = [part for content in body["contents"] for part in content["parts"]]
    text = system_text(body) + "".join(part.get("text", "") for part in parts)
    return len(text) // 4 + IMAGE_TOKENS * sum("text" not in part for part in parts)


def response(
    pairs: Any, body: dict[str, Any], finish: str = "STOP", text: str | None = None
) -> dict[str, Any]:
    """A response with these pairs as JSON, or with this text."""
    text = (word_for(body) or json.dumps(pairs)) if text is None else text
    used = count_tokens(body)
    return {
        "candidates": [
            {
                "content": {"parts": [{"text": text}], "role": "model"},
                "finishReason": finish,
                "index": 0,
            }
        ],
        "usageMetadata": {
            "promptTokenCount": used,
            "candidatesTokenCount": len(text) // 4,
            "totalTokenCount": used + len(text) // 4,
        },
        "modelVersion": "gemini-3.5-flash-lite-001",
    }


def faulty_response(fault: str, body: dict[str, Any]) -> dict[str, Any]:
    """A 200 whose content has the fault; without one, a good answer."""
    pairs = requested_pairs(body)
    text = json.dumps(pairs)
    usage = response(pairs, body)["usageMetadata"]
    if fault == "torn":
        return response(pairs, body, "MAX_TOKENS", text[: int(len(text) * 0.6)])
    if fault == "prose":
        return response(pairs, body, text=f"Sure! Here are the questions:\n{text}\nAnything else?")
    if fault == "fence":
        return response(pairs, body, text=f"```json\n{text}\n```")
    if fault == "too_few":
        return response(pairs[:-1], body)
    if fault == "too_many":
        every = all_pairs(product_in(body))
        return response([*pairs, *[pair for pair in every if pair not in pairs]], body)
    if fault == "multi_word":
        return response([*pairs[:-1], {**pairs[-1], "answer": "rather hard to say"}], body)
    if fault == "blocked":
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage}
    if fault == "thoughts":  # the whole output budget went into them
        return {
            "candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}],
            "usageMetadata": {"promptTokenCount": count_tokens(body), "thoughtsTokenCount": 1021},
        }
    if fault == "recitation":
        return {"candidates": [{"finishReason": "RECITATION", "index": 0}], "usageMetadata": usage}
    if fault == "empty_text":
        return response(pairs, body, text="")
    if fault == "refusal":
        return response(pairs, body, text="I'm sorry, I can't help with that.")
    if fault == "commas":
        return response(pairs, body, text=text.replace('"}', '",}').replace("}]", "},]"))
    if fault == "all_multi_word":
        return response([pair | {"answer": "rather hard to say"} for pair in pairs], body)
    if fault == "safety":
        return {"candidates": [{"finishReason": "SAFETY", "index": 0}], "usageMetadata": usage}
    if fault == "empty":
        return {"usageMetadata": usage}
    return response(pairs, body)
