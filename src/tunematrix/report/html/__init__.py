"""Records → one HTML file that opens from disk: records in, a typed payload, a page around it."""
