"""Questions and answers about the balanced pictures: annotators behind one contract."""
