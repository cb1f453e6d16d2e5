"""Sessions of this example: `nox -l` lists them."""

from tunematrix.nox import environments

environments()
