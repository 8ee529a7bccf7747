"""A model behind HTTP: the server, and a page to try it."""
