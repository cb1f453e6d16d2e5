"""What is known of releases: faults that some have, and what some can't do; ranges as data.

One entry says of which releases it holds, in the same words wherever it stands: distribution to a
range of versions. Which of them are installed is asked where the cells run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Self, TypeAlias, TypeVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from tunematrix.configuration.section import Names, NonEmpty, OneOrMore, Section

Version = Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.+!_-]*$")]
Distribution = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Installed: TypeAlias = Callable[[str], str | None]
"""Takes the name of a distribution; returns its version, or None where it isn't there."""

SPEC = "spec"
"""Stands among the axes of `when` for the name of a spec."""
_ENDS = ("<", "<=", "==", "===", "~=")


def _range(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise PydanticCustomError("not_a_range", 'is no range, such as ">=4.46,<5.10"') from None
    return text


Specifier = Annotated[str, AfterValidator(_range)]
Releases = Annotated[Mapping[Distribution, Specifier], Field(min_length=1)]


def covers(releases: Mapping[str, str], installed: Installed) -> bool:
    """Return whether all these distributions are there, each in its range."""
    return all(
        (version := installed(name)) is not None
        and SpecifierSet(wanted).contains(version, prereleases=True)
        for name, wanted in releases.items()
    )


class OfReleases(Section):
    """What is known of some releases, and of which points of the matrix it holds."""

    releases: Releases = Field(
        description="Distribution to a range of its releases; all of them must be installed."
    )
    when: Mapping[str, OneOrMore] = Field(
        {},
        description="For each axis, the option or options that it holds for; `spec` stands for the "
        "name of the spec. Default: all.",
    )
    reason: NonEmpty = Field(description="What is wrong there; shown in the report.")
    link: Annotated[str, Field(pattern=r"^https?://\S+$")] = Field(
        description="Page where that is documented or tracked."
    )

    @model_validator(mode="after")
    def _ends(self) -> Self:
        """Refuse what also holds of all releases to come: nobody would notice its repair."""
        every = [one for text in self.releases.values() for one in SpecifierSet(text)]
        if not any(one.operator in _ENDS for one in every):
            text = "has no end; declare what the newest releases do in the spec or the option"
            raise PydanticCustomError("no_end", text)
        return self


class FaultOfReleases(OfReleases):
    """A fault of some releases: there, these checks may fail, or this may be raised.

    It isn't held to fail, as a spec's known failure is: a release that is out never changes, and
    that the checks notice its fault is shown by the table of regressions.
    """

    checks: Names = Field((), description="Checks that may fail.")
    raises: NonEmpty | None = Field(
        None, description="The exception that a cell may end with, or one of its base classes."
    )

    @model_validator(mode="after")
    def _fails(self) -> Self:
        if not self.checks and self.raises is None:
            raise PydanticCustomError("no_failure", "names no failure; give checks or raises")
        return self


class LimitOfReleases(OfReleases):
    """What some releases can't do: there, such cells are unsupported."""

    raises: NonEmpty | None = Field(None, description="Exception that a probe must end with.")


Entry = TypeVar("Entry", bound=OfReleases)


class ReleaseTable(Section):
    """All that is known of releases: `releases.yaml` of a config folder."""

    faults: Annotated[tuple[FaultOfReleases, ...], Strict(False)] = ()
    limits: Annotated[tuple[LimitOfReleases, ...], Strict(False)] = ()

    def on(self, backend: str) -> Self:
        """Return what of it is about a backend, said of that alone."""
        return self.model_copy(
            update={
                "faults": tuple(_of_backend(self.faults, backend)),
                "limits": tuple(_of_backend(self.limits, backend)),
            }
        )


def _of_backend(entries: Iterable[Entry], backend: str) -> Iterator[Entry]:
    for entry in entries:
        wanted = entry.when.get("backend", (backend,))
        if backend in ((wanted,) if isinstance(wanted, str) else wanted):
            yield entry.model_copy(update={"when": {**entry.when, "backend": (backend,)}})
