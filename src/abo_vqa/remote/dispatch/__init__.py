"""Requests to a service: several at a time, up to its quota, within the budget, until it answers.

Annotation and the family `endpoint` share it: what an item is, and what becomes of its reply, is
theirs.
"""
