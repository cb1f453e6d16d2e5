"""What must hold: YAML files → frozen specs, with everything that is wrong reported at once."""

from tunematrix.spec.known_failure import KnownFailure
from tunematrix.spec.loader import find_specs, json_schema, load_specs
from tunematrix.spec.model import Source, Spec
from tunematrix.spec.problems import Problem, refuse

__all__ = [
    "KnownFailure",
    "Problem",
    "Source",
    "Spec",
    "find_specs",
    "json_schema",
    "load_specs",
    "refuse",
]
