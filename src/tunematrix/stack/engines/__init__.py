"""What a recipe drives: loading, training loops, scoring."""
