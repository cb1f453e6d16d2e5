"""What an environment is, whether this machine can have it, and how it is built.

`table` reads the rows of pyproject.toml, `host` holds a row's probe against the machine, `locks`
ties a lock to what it was compiled from, `building` and `inherited` are what noxfile.py builds
with. `yours` runs the suite over versions that a user has: `interpreter` looks at their Python,
`from_lock` installs their lock, `uv` is asked for both. All run in noxfile.py, where nothing of
this project is installed: they need the standard library alone, and `packaging`, which comes with
Nox.
"""
