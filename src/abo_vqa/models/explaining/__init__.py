"""Why a model answered so: its likeliest answers, and where in the image it attended.

One explainer for each way of answering; `registry.explainer_of` finds a model's.
"""
