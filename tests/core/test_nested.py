from abo_vqa.core.nested import flatten, leaves


def test_keys_of_all_levels_are_joined_in_order():
    nested = {"lora": {"r": 16, "targets": ["q", "v"]}, "seed": 1, "empty": {}, "none": None}
    flat = flatten(nested)
    assert flat == {"lora.r": 16, "lora.targets": ["q", "v"], "seed": 1, "none": None}
    assert list(flat) == ["lora.r", "lora.targets", "seed", "none"]
    assert flatten({"a": {"b": {"c": 1}}}, "/") == {"a/b/c": 1}


def test_a_key_may_hold_the_separator():
    assert list(leaves({"yes/no": {"yes": 2}})) == [(("yes/no", "yes"), 2)]
