"""Tables of questions → answers: batched, journaled, resumable."""
