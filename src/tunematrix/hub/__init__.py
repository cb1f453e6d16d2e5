"""Files of repositories on the Hugging Face Hub → a folder, checked and listed.

`session` is the way in: it starts the process that downloads and passes on what that says.
"""
