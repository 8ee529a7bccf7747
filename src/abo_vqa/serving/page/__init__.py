"""A page to try the models: an image, a question, and every model's answer side by side.

`mounting.mount_page` adds it to any FastAPI application.
"""
