"""The notebooks for Kaggle and Colab, from one source."""
