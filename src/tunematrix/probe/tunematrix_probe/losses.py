"""A language model's loss, read off the gradient that arrived at its logits.

For a cross-entropy that gradient is at each position a weight times (softmax - one-hot of the
target). So it tells the positions that count, what each weighs and what its target is, whatever
computed the loss, and wherever the labels were.
"""

from __future__ import annotations

from typing import Any

import torch

from .batches import IGNORED, mask_of, named_inputs
from .records import SeenLoss
from .repeating import Pass
from .slopes import FITS, Rows, at_once, rows_of
from .state import ProcessState

POSITIONS = 4096
"""That are looked at of a pass."""
CERTAIN = 0.999
"""Probability of a label above which its gradient may be too small to be seen."""


class Losses:
    """Looks at the logits of repeated passes."""

    def __init__(self, state: ProcessState) -> None:
        self.state = state

    def look(self, one: Pass, outputs: dict[str, torch.Tensor], output: Any, loss: Any) -> None:
        """Look at one pass, which has been made again; its graph is still there."""
        inputs = named_inputs(one.model, one.args, one.kwargs or {})
        ids = inputs.get("input_ids")
        if not isinstance(ids, torch.Tensor) or ids.dim() != 2 or ids.is_floating_point():
            return
        found = _found(one, outputs, ids)
        if found is None:
            reason = "the model returns no logits for all positions"
            if "labels" in inputs:
                self.state.off.pass_over("loss", reason, one.step)
            return
        logits, gradient = found
        if gradient is None or not bool(gradient.any()):
            gradient = _through_loss(one, outputs, logits)
        if gradient is None:
            reason = "the loss doesn't come from the logits that the model returns"
            self.state.off.pass_over("loss", reason, one.step)
            return
        returned = None if loss is None else float(loss.detach())
        with torch.no_grad():
            self.state.writer.write(_seen(one, ids, inputs, logits.detach(), gradient, returned))


def _found(one: Pass, outputs: dict[str, torch.Tensor], ids: torch.Tensor) -> Any:
    """Return the logits for all positions, and what arrived there, if the model returns them."""
    for path in (".logits", ".0", ""):
        if _is_logits(outputs.get(path), ids):
            return outputs[path], one.arrived.get(path)
    # Some return them in parts, one after the other along each row.
    parts = {path: t for path, t in outputs.items() if t.dim() == 3 and t.is_floating_point()}
    if len({(t.shape[0], t.shape[2]) for t in parts.values()}) != 1:
        return None
    whole = torch.cat(list(parts.values()), dim=1)
    if not _is_logits(whole, ids):
        return None
    none = {path: torch.zeros_like(t) for path, t in parts.items() if path not in one.arrived}
    return whole, torch.cat([{**one.arrived, **none}[path] for path in parts], dim=1)


def _is_logits(tensor: Any, ids: torch.Tensor) -> bool:
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.dim() == 3
        and tensor.is_floating_point()
        and tuple(tensor.shape[:2]) == tuple(ids.shape)
        and tensor.shape[2] > 1
    )


def _through_loss(one: Pass, outputs: dict[str, torch.Tensor], logits: Any) -> Any:
    """Return the gradient at the logits before they were converted for whoever called the model."""
    path = next((p for p in one.arrived if outputs.get(p) is not None), None)
    if path is None or logits.grad_fn is None:
        return None
    from torch.autograd.graph import GradientEdge

    edges = [GradientEdge(logits.grad_fn, logits.output_nr)]
    edges += [
        GradientEdge(node, place) for node, place in logits.grad_fn.next_functions[:1] if node
    ]
    with torch.autocast(one.autocast[0], enabled=False):
        found = torch.autograd.grad(
            [outputs[path]], edges, [one.arrived[path]], allow_unused=True, retain_graph=True
        )
    shape = logits.shape
    return next((g for g in found if g is not None and g.shape == shape and bool(g.any())), None)


def _seen(
    one: Pass,
    ids: torch.Tensor,
    inputs: dict[str, Any],
    logits: torch.Tensor,
    gradient: torch.Tensor,
    returned: float | None,
) -> SeenLoss:
    positions = ids.numel()
    places = torch.arange(positions, device=ids.device)
    if positions > POSITIONS:
        # Whole rows, so that what follows a position is there as well.
        rows = max(1, POSITIONS // ids.shape[1])
        places = places[: rows * ids.shape[1]]
    found, smoothing = rows_of(logits, gradient, places)
    here = places[found.counted]
    later = _following(ids, here)
    labels, mask = inputs.get("labels"), mask_of(one.model, ids, inputs)
    of_labels = padding = missing = None
    if isinstance(labels, torch.Tensor) and labels.shape == ids.shape:
        following = _following(labels.to(ids.device), here)
        of_labels = int((following[0] == found.target).sum())
        missing = _missing(labels.to(ids.device), places, found, logits)
    if mask is not None:
        padding = int((_following(mask.to(ids.device).long(), here)[0] == 0).sum())
    weights = found.weight
    return SeenLoss(
        model=one.model.number,
        step=one.step,
        pass_number=one.pass_number,
        positions=positions,
        looked_at=len(places),
        counted=len(here),
        fits=float((found.misfit < FITS).double().mean()) if len(here) else 0.0,
        smoothing=smoothing,
        targets_same=int((ids.reshape(-1)[here] == found.target).sum()),
        targets_next=int((later[0] == found.target).sum()),
        targets_second=int((later[1] == found.target).sum()),
        targets_labels=of_labels,
        padding=padding,
        missing=missing,
        weight_least=float(weights.min()) if len(here) else 0.0,
        weight_most=float(weights.max()) if len(here) else 0.0,
        weight_sum=float(weights.double().sum()),
        cross_entropy=float((weights.double() * found.nats.double()).sum()),
        returned=returned,
        model_loss=None if one.model_loss is None else float(one.model_loss),
    )


def _following(values: torch.Tensor, here: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what stands one and two places further in the same row; -1 past its end."""
    columns = values.shape[1]
    found = []
    for distance in (1, 2):
        inside = here % columns + distance < columns
        there = values.reshape(-1)[(here + distance).clamp(max=values.numel() - 1)]
        found.append(torch.where(inside, there, torch.full_like(there, -1)))
    return found[0], found[1]


def _missing(labels: torch.Tensor, places: torch.Tensor, found: Rows, logits: Any) -> int:
    """Count labels of the next position that got no gradient, and aren't certain already."""
    left = places[~found.counted]
    target = _following(labels, left)[0]
    labelled = (target != IGNORED) & (target >= 0)
    left, target = left[labelled], target[labelled]
    if not len(left):
        return 0
    scores = logits.reshape(-1, logits.shape[-1])
    missing = 0
    step = at_once(logits)
    for begin in range(0, len(left), step):
        part = scores[left[begin : begin + step]].float()
        chosen = part.gather(1, target[begin : begin + step, None])[:, 0]
        missing += int(((chosen - part.logsumexp(1)).exp() < CERTAIN).sum())
    return missing
