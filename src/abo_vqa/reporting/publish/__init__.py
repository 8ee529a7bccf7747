"""The set in a form that others can load: Parquet with pictures, a data card, Croissant."""
