"""The steps that a user's own model goes through, each a command: download comes first.

Each step is a package here: the models of its config, the step itself, and what it shows.
`settings` reads the config of any of them. No ML library is imported in this room.
"""
