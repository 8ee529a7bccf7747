"""From predictions to numbers: metrics, confidence intervals, significance tests, slices."""
