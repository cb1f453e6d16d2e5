"""The first step: files of repositories on the Hugging Face Hub → a folder, checked and listed."""
