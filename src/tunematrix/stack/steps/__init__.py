"""The steps of a pipeline: a user's own model and files go in, folders and events come out.

Each module has a function `run(settings, job)`, which may be called after another step's in the
same process.
"""
