"""Scoring recipes: the plain reference, the engine that gives the same scores for less, tables.

Nothing is imported here, so that a table needs no torch.
"""
