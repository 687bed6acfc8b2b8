"""Gymnasium environments over a scorer."""
