"""Vision-language models behind one contract; `registry` lists them by name."""
