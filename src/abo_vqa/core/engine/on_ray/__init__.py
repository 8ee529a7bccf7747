"""Work on the workers of a Ray cluster; nothing else imports Ray."""
