"""`python -m tunematrix`."""

from tunematrix.cli import main

main()
