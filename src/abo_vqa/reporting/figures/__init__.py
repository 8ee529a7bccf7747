"""Every figure of the report: one plot function each, listed in `register`."""
