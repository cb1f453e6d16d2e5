"""A model behind a real server: how it is started, watched, asked and ended."""
