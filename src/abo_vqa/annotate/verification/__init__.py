"""A second opinion: other models answer the generated questions, and the table says who agrees."""
