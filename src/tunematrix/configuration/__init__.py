"""One cell's configuration as frozen models, from option files to cell.json and checks."""

from tunematrix.configuration.cell import Configuration
from tunematrix.configuration.declarations import Declarations
from tunematrix.configuration.options import OPTION_MODELS, AddedOption

__all__ = ["OPTION_MODELS", "AddedOption", "Configuration", "Declarations"]
