"""Recipes as files that others read."""
