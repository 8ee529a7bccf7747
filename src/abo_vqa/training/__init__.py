"""Fine-tuning: batches by picture, the loop, checkpoints."""
