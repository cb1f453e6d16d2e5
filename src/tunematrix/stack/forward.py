"""One forward pass of a model that a config builds: is the output finite, does its shape fit?

Used by `tunematrix check --forward`, in the process that examines configs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch

Keeps = Literal["shape", "batch", "nothing"]


def forward_problem(
    build_model: Callable[[], Any],
    build_data: Callable[[], Any],
    sample: Mapping[str, Any] | None,
    keeps: Keeps,
) -> tuple[str, str]:
    """Run a model once on the CPU, without gradients.

    Args:
        build_model: makes the model. build_data: makes the data module, or None.
        sample: shape, dtype and high of an input that is to be made; None to take the model's
            `example_input_array`, or else the first batch of the data.
        keeps: what of the input's shape the output must have.

    Returns:
        What is wrong, or an empty text; why there was no forward pass, or an empty text.
    """
    torch.manual_seed(0)
    model = build_model()
    if not isinstance(model, torch.nn.Module):
        return "", f"no forward pass: the model is a {type(model).__name__}, not a torch.nn.Module"
    arguments = _input(model, build_data, sample)
    if arguments is None:
        return "", (
            "no forward pass: no input is known; give the model an example_input_array, or "
            "tool.tunematrix.inspect.input a shape"
        )
    model.eval()
    with torch.no_grad():
        output = model(**arguments) if isinstance(arguments, Mapping) else model(*arguments)
    given = next(tensors(arguments), None)
    made = list(tensors(output))
    for tensor in made:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            return (
                f"the forward pass gives {bad} of {tensor.numel()} values that are nan or inf",
                "",
            )
    return _shape_problem(given, [tensor for tensor in made if tensor.dim() > 0], keeps), ""


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in what a model takes or gives: nested tuples, lists and mappings."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)


def _input(
    model: torch.nn.Module, build_data: Callable[[], Any], sample: Mapping[str, Any] | None
) -> tuple[Any, ...] | dict[str, Any] | None:
    """Return the arguments of the forward pass; None where no input is known."""
    if sample is not None:
        dtype = getattr(torch, sample["dtype"])
        if dtype.is_floating_point:
            return (torch.randn(*sample["shape"], dtype=dtype),)
        return (torch.randint(0, sample["high"], tuple(sample["shape"]), dtype=dtype),)
    example = getattr(model, "example_input_array", None)
    if example is not None:
        return example if isinstance(example, tuple | dict) else (example,)
    data = build_data()
    batch = None if data is None else _first_batch(data)
    return None if batch is None else _arguments(model, batch)


def _first_batch(data: Any) -> Any:
    """Return the first batch of a data module, a loader or a dataset; None for something else."""
    if hasattr(data, "train_dataloader"):
        for name, arguments in (("prepare_data", ()), ("setup", ("fit",))):
            if callable(hook := getattr(data, name, None)):
                hook(*arguments)
        data = data.train_dataloader()
    if isinstance(data, torch.utils.data.Dataset):
        data = torch.utils.data.DataLoader(data, batch_size=2)
    return next(iter(data), None) if hasattr(data, "__iter__") else None


def _arguments(model: torch.nn.Module, batch: Any) -> tuple[Any, ...] | dict[str, Any]:
    """Return what of a batch `forward` takes: by name from a mapping, else its first entries."""
    parameters = inspect.signature(model.forward).parameters
    if isinstance(batch, Mapping):
        names = [name for name in batch if name in parameters]
        return {name: batch[name] for name in names} if names else (batch,)
    if isinstance(batch, list | tuple):
        needed = [p for p in parameters.values() if p.default is p.empty and p.kind in (0, 1)]
        return tuple(batch[: max(1, len(needed))])
    return (batch,)


def _shape_problem(given: torch.Tensor | None, made: list[torch.Tensor], keeps: Keeps) -> str:
    if given is None or not made or keeps == "nothing":
        return ""
    shape, shapes = tuple(given.shape), [tuple(tensor.shape) for tensor in made]
    if keeps == "shape":
        return "" if shape in shapes else f"the output has shape {shapes[0]}, the input {shape}"
    if shape[0] in {each[0] for each in shapes}:
        return ""
    return f"the output has shape {shapes[0]}, so it doesn't keep the batch of the input {shape}"
