"""DVC's experiments: what is known of them, their outputs, and running them."""
