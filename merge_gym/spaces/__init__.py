"""What may be decided, as values: no torch in here."""
