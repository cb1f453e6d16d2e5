"""What is remembered of a cell: its outcome, as one line of JSON."""
