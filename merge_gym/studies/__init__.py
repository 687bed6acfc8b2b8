"""One search: its budget, its journal, what it tried and found."""
