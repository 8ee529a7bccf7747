"""Chat templates in the style of the real checkpoints'."""

from __future__ import annotations

SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}"
    "{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
IDEFICS3_TEMPLATE = SMOLVLM_TEMPLATE.replace("<|im_start|>", "<|begin_of_text|>", 1)


def _turns(start: str, image: str, end: str, answer: str) -> str:
    """A template in which each message is `start`, the image where it stands, the text, `end`."""
    return (
        f"{{% for message in messages %}}{start}{{% for part in message['content'] %}}"
        f"{{% if part['type'] == 'image' %}}{image}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
        f"{{% endfor %}}{end}{{% endfor %}}{{% if add_generation_prompt %}}{answer}{{% endif %}}"
    )


_CHATML = ("<|im_start|>{{ message['role'] }}\n", "<|im_end|>\n", "<|im_start|>assistant\n")
QWEN3_TEMPLATE = _turns(_CHATML[0], "<|vision_start|><|image_pad|><|vision_end|>", *_CHATML[1:])
QWEN2_5_TEMPLATE = "<|im_start|>system\nthis is a question<|im_end|>\n" + QWEN3_TEMPLATE
INTERNVL_TEMPLATE = _turns(_CHATML[0], "<IMG_CONTEXT>\n", *_CHATML[1:])
GRANITE_TEMPLATE = "<|system|>\nthis is a question\n" + _turns(
    "<|{{ message['role'] }}|>\n", "<image>\n", "{{ '\n' }}", "<|assistant|>\n"
)
GEMMA3_TEMPLATE = "{{ bos_token }}" + _turns(
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n",
    "<start_of_image>",
    "<end_of_turn>\n",
    "<start_of_turn>model\n",
)
