"""Make a foreign trainer happen: a template and a spec → a command, guarded, with its evidence.

No ML library is imported here; nothing is imported by this file, since the guard starts fast.
"""
