"""Strategies of a matrix over the shipped options: nothing unsupported is in them, nothing lost."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from tunematrix.environments.table import Environment
from tunematrix.errors import BadInput
from tunematrix.matrix.cells import expand
from tunematrix.matrix.combining import combined_by
from tunematrix.matrix.groups import Groups
from tunematrix.matrix.missing import missing_pairs
from tunematrix.matrix.plan import plan
from tunematrix.report.meetings import covering_lines, missing_lines
from tunematrix.results.planned import spec_digest
from tunematrix.spec import Spec

Load = Callable[..., Spec]
CPU, MLX = Environment("cpu", "", ("cpu",)), Environment("mlx", "", ("mlx",))
WIDE = """matrix:
  strategy: pairs
  method: [lora, full, dora, custom-lora]
  quantizer: all
  data: [text, packed, chat]
  launcher: [single, ddp, fsdp]
  optimizer: all
"""
RELATION = """matrix: {strategy: pairs, method: [lora, full], optimizer: [adamw, sgd],
  scheduler: [constant, cosine, linear]}
relation: {arms: {one: {}, other: {quantizer: bnb-int8}}, compare: [logits],
  tolerance: {logits: 0.1}}
"""


def pairs(axes: dict[str, str]) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """Return all pairs of a cell's options."""
    return set(itertools.combinations(sorted(axes.items()), 2))


@pytest.mark.parametrize("backend", ["cpu", "cuda", "mps", "mlx"])
@pytest.mark.parametrize("seed", [0, 7])
def test_as_the_whole_product_says(backend: str, seed: int, shipped: Groups, load: Load) -> None:
    """What meets in some supported cell of the product meets; no cell is an exclusion there."""
    spec = load(WIDE.replace("pairs", f"pairs@{seed}"))
    (whole,) = combined_by([spec], "product")
    few, none = expand(spec, shipped, [backend])
    all_of_them, _ = expand(whole, shipped, [backend])
    assert none == ()
    assert {cell.id for cell in few} <= {cell.id for cell in all_of_them}
    varied = set(spec.matrix.axes)
    met = {pair for cell in few for pair in pairs({a: cell.axes[a] for a in varied})}
    possible = {pair for cell in all_of_them for pair in pairs({a: cell.axes[a] for a in varied})}
    assert met == possible
    assert len(few) < len(all_of_them) / 3


@pytest.mark.parametrize("number", range(20))
def test_any_axes_and_options(number: int, shipped: Groups, load: Load) -> None:
    """The same of twenty matrices drawn from the shipped options."""
    draw = random.Random(number)
    names = ["model", "data", "method", "quantizer", "optimizer", "scheduler", "precision"]
    axes = draw.sample(names, 4)
    lines = []
    for axis in axes:
        options = sorted(set(shipped.axes[axis]) - {"checkpoint"})
        lines.append(f"  {axis}: {draw.sample(options, min(3, len(options)))}".replace("'", ""))
    spec = load("\n".join(["matrix:", "  strategy: pairs", *lines]))
    (whole,) = combined_by([spec], "product")
    backend = draw.choice(["cpu", "cuda", "mlx"])
    few, none = expand(spec, shipped, [backend])
    many, _ = expand(whole, shipped, [backend])
    assert none == ()
    of_few, of_many = (
        {pair for cell in cells for pair in pairs({a: cell.axes[a] for a in axes})}
        for cells in (few, many)
    )
    assert of_few == of_many


def test_two_axes_are_run_whole(shipped: Groups, load: Load) -> None:
    """All pairs of two axes are their product, whose exclusions are listed as ever."""
    text = "matrix: {%s method: [lora, full], quantizer: [none, bnb-int8]}"
    paired = plan([load(text % "strategy: pairs,")], shipped, CPU)
    whole = plan([load(text % "")], shipped, CPU)
    assert [cell.id for cell in paired.cells] == [cell.id for cell in whole.cells]
    assert len(paired.exclusions) == len(whole.exclusions) == 1
    assert paired.combined == ()


def test_arms_of_a_relation_share_their_points(shipped: Groups, load: Load) -> None:
    """What one arm can't do is left out for both; every relation that is planned has its arms."""
    found = plan([load(RELATION)], shipped, CPU)
    assert found.relations
    assert all(len(one.arms) == 2 for one in found.relations)
    assert {one.axes["method"] for one in found.relations} == {"lora"}  # 8 bits take no gradient
    assert found.exclusions == ()
    lines = list(covering_lines(found.combined))
    assert lines[0].startswith("a on cpu: ")
    assert any("integer weights take no gradient" in line for line in lines)


def test_a_strategy_of_one_run(shipped: Groups, load: Load) -> None:
    """`--strategy` takes the place of what specs say, and changes nothing of what they claim."""
    spec = load(WIDE)
    (whole,) = combined_by([spec], "product")
    assert len(plan([whole], shipped, CPU).cells) > len(plan([spec], shipped, CPU).cells)
    assert combined_by([spec], "") == (spec,)
    assert spec_digest(whole) == spec_digest(spec)
    with pytest.raises(BadInput, match=r"--strategy pair is no strategy; did you mean pairs\?"):
        combined_by([spec], "pair")


@pytest.mark.parametrize("wrong", ["pair", "pairs@", "pairs@x", "product@3", "PAIRS", "[pairs]"])
def test_a_wrong_strategy(wrong: str, load: Load) -> None:
    """A strategy that doesn't exist is an error with its line."""
    with pytest.raises(BadInput, match=r"spec\.yaml:3: matrix\.strategy"):
        load(f"matrix: {{strategy: {wrong}}}")


def test_pairs_that_no_cell_has(shipped: Groups, load: Load) -> None:
    """A pair is met, declared unsupported or missing; never two of these."""
    spec = load("matrix: {method: [lora, full], quantizer: all}")
    found = missing_pairs(plan([spec], shipped, CPU), shipped)
    (one,) = [pair for pair in found if pair.axes == ("method", "quantizer")]
    assert ("lora", "hqq-int4") in one.met
    assert ("dora", "hqq-int4") in one.missing
    assert not set(one.met) & set(one.missing)
    quantizers = [name for name in shipped.axes["quantizer"] if not name.startswith("mlx")]
    methods = len(shipped.axes["method"])
    assert len(one.met) + len(one.missing) + one.unsupported == methods * len(quantizers)
    lines = list(missing_lines(found))
    assert "method × quantizer: 10 of" in "\n".join(lines)
    assert lines[-1].endswith("more are declared unsupported")


def test_what_a_recipe_takes_no_notice_of_is_not_missing(shipped: Groups, load: Load) -> None:
    """A command has no optimizer of ours: that the two never meet is no gap."""
    found = missing_pairs(plan([load()], shipped, MLX), shipped)
    beside = {pair.axes: {one for one, _ in pair.missing} for pair in found}
    assert "command" not in beside["recipe", "optimizer"]
    assert "sft" in beside["recipe", "optimizer"]
