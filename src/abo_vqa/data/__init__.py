"""From the raw archives to train and test: reading, curating, splitting, auditing."""
