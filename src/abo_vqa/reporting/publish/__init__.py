"""The set in a form that others can load: Parquet with images, a data card, Croissant."""
