"""The benchmark: a plan of runs, the store that keeps them, their statistics, and a page."""
