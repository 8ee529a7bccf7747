"""Annotating one request at a time, up to the quota and within the budget, whatever fails."""
