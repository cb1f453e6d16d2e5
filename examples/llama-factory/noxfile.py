"""Sessions of this example: `nox -l` lists them."""

import os

from tunematrix.nox import environments

# Packages that LLaMA-Factory asks for, and that training on texts has no use for; see README.md.
os.environ.setdefault("UV_OVERRIDE", "overrides.txt")
environments()
