"""Fine-tuning: batches by image, the loop, checkpoints."""
