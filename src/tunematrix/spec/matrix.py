"""A spec's matrix: the options to combine on each axis, and how many combinations are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from tunematrix.configuration.section import Section
from tunematrix.errors import did_you_mean
from tunematrix.spec.values import Options

PRODUCT = "product"
STRENGTHS: Mapping[str, int] = MappingProxyType({"pairs": 2, "triples": 3})
"""How many options of different axes have to meet, by the name of the strategy."""
_STRATEGY = re.compile(r"(?P<name>[a-z]+)(?:@(?P<seed>\d{1,9}))?")


@dataclass(frozen=True)
class Strategy:
    """How the options of a matrix are combined.

    Attributes:
        strength: options of as many axes have to meet somewhere; None combines all with all.
        seed: of the order in which combinations are looked for; another one gives other points.
    """

    strength: int | None = None
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Strategy:
        """Read `product`, `pairs`, `triples`, or one of the last two with a seed: `pairs@7`.

        Raises:
            ValueError: it is none of them; the text says what to write.
        """
        found = _STRATEGY.fullmatch(text)
        name = found["name"] if found else text
        if name == PRODUCT and name == text:
            return cls()
        if found is None or name not in STRENGTHS:
            advice = did_you_mean(name, (PRODUCT, *STRENGTHS))
            seed = ", and pairs@7 names a seed" if "@" in text else ""
            raise ValueError(f"{text} is no strategy; {advice}{seed}")
        return cls(STRENGTHS[name], int(found["seed"] or 0))


def _strategy(text: str) -> str:
    try:
        Strategy.parse(text)
    except ValueError as error:
        raise PydanticCustomError("no_strategy", "{why}", {"why": str(error)}) from None
    return text


class Matrix(Section):
    """The options of a spec on each axis, and how they are combined."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Options]

    strategy: Annotated[str, AfterValidator(_strategy)] = Field(
        PRODUCT,
        json_schema_extra={"pattern": rf"^({PRODUCT}|({'|'.join(STRENGTHS)})(@[0-9]+)?)$"},
        description="How the options are combined: `product` makes a cell of each combination, "
        "`pairs` only as many as it takes for any two options to meet in one, `triples` for any "
        "three. `pairs@7` looks for others.",
    )

    @classmethod
    def of(cls, axes: Mapping[str, Options]) -> Matrix:
        """Return a matrix of all combinations of these options."""
        return cls.model_validate(axes)

    def on(self, backend: str) -> Matrix:
        """Return this matrix on one backend alone."""
        return Matrix.model_validate({**self.model_dump(), "backend": [backend]})

    def covers(self, axes: int) -> bool:
        """Return whether fewer cells are made of so many axes than there are combinations."""
        strength = Strategy.parse(self.strategy).strength
        return strength is not None and strength < axes

    @property
    def axes(self) -> Mapping[str, Options]:
        """Each axis to the options to combine, or to `all`."""
        return MappingProxyType(self.__pydantic_extra__)

    def combined_by(self, strategy: str) -> Matrix:
        """Return the same options, combined another way; the text is one that `parse` takes."""
        return self.model_copy(update={"strategy": strategy})
