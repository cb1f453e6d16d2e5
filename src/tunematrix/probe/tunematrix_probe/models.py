"""Calls of models: which modules are models, and what each of their calls is.

A model is whatever is called from outside of any other module. Until the first optimizer has made
a step every module's call is looked at, by PyTorch's global hooks; afterwards those of the models
that were found, by hooks of their own.
"""

from __future__ import annotations

import warnings
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as global_hooks

from . import structure
from .patches import is_compiling
from .records import SwitchedOff
from .state import OptimizerState, ProcessState

SEARCHES = 4
"""How often models are looked for again, where none of those known is called any more."""
SHARDED = ("FSDP", "sharded", "DeepSpeed", "DataParallel")


@dataclass
class Model:
    """A model that has been called, and how.

    Attributes:
        number: in the order of the first calls; ref: to the module as it is called; inner: inside
            of its wrappers; wrappers: what these are; unaudited: why it can't be recomputed.
        dropouts, norms: modules whose mode matters.
        evaluations, and so on: forward passes without gradients, see `SeenEvaluation`.
        optimized: whether an optimizer had a parameter of it.
        products_seen: whether its arithmetic has been looked at; inputs: names of what it takes.
        used_at: step of all optimizers at which it was last called with gradients to come.
    """

    number: int
    ref: Any
    inner: Any
    wrappers: tuple[str, ...]
    unaudited: str
    dropouts: list[Any] = field(default_factory=list)
    norms: list[Any] = field(default_factory=list)
    evaluations: int = 0
    evaluations_training: int = 0
    evaluations_effective: int = 0
    in_a_row: int = 0
    in_a_row_effective: int = 0
    longest: int = 0
    longest_effective: int = 0
    used_at: int = 0
    products_seen: bool = False
    optimized: bool = False
    inputs: list[str] | None = None

    def names(self) -> dict[int, str]:
        """Return the names of its parameters, by their ids."""
        inner = self.inner()
        return {} if inner is None else {id(p): name for name, p in inner.named_parameters()}

    def is_effective(self) -> bool:
        """Whether something in it computes otherwise because it is in training mode."""
        return any(m.training for m in self.dropouts) or any(m.training for m in self.norms)


class Models:
    """Finds models, and tells the observers of their calls.

    Args:
        observers: have `model_found(model)`, `entered(model)` and
            `left(model, args, kwargs, output)`, of passes with gradients to come alone.

    Attributes:
        calls: modules in the order of their first calls with gradients, of the first step.
    """

    def __init__(self, state: ProcessState, observers: list[Any]) -> None:
        self.state = state
        self.observers = observers
        self.searches = self._forwards = 0
        self.removed = False
        self._global: list[Any] = []
        self._own: list[Any] = []
        self._stack: list[Any] = []
        self.calls: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self._known: weakref.WeakKeyDictionary[nn.Module, Model] = weakref.WeakKeyDictionary()

    def search(self) -> None:
        """Look at every module's call, until `found`."""
        if not self._global and self.searches < SEARCHES:
            self.searches += 1
            # The hooks see to themselves that nothing of theirs is compiled.
            warnings.filterwarnings("ignore", message=".*there are global hooks on modules")
            self._global = [
                global_hooks.register_module_forward_pre_hook(self._pre_any),
                global_hooks.register_module_forward_hook(self._post_any, always_call=True),
            ]

    def found(self) -> None:
        """Look at the known models' calls alone."""
        for hook in self._global:
            hook.remove()
        if self._global:
            self._stack.clear()
        self._global = []

    def stepped(self, one: OptimizerState) -> None:
        """End the search after the first step; begin it again where no known model was called."""
        if any(model.number >= 0 for model in self._known.values()):
            self.found()
        since = self.state.counts.forwards - self._forwards
        self._forwards = self.state.counts.forwards
        if not since:
            self.search()

    def remove(self) -> None:
        """Look at nothing any more."""
        self.removed = True
        self.found()
        self.unhook()

    def between_passes(self) -> None:
        """Nothing is being called now, whatever a call that raised may have left behind."""
        self._stack.clear()

    def _guarded(self, function: Any, *args: Any) -> None:
        try:
            function(*args)
        except Exception as error:
            self.state.off.fell_over("models", error, self.state.steps)

    def _pre_any(self, module: nn.Module, args: Any) -> None:
        if not is_compiling():
            self._guarded(self._saw, module, args)

    def _saw(self, module: nn.Module, args: Any) -> None:
        if torch.is_grad_enabled() and not self.state.busy:
            self.calls.setdefault(module, len(self.calls))
        self._enter(module, args)

    def _post_any(self, module: nn.Module, args: Any, output: Any) -> None:
        if not is_compiling() and self._stack:
            self._guarded(self._left_any, module)

    def _left_any(self, module: nn.Module) -> None:
        # Of a model, its own hook has the keywords as well, and comes right after this one.
        if module not in self._known:
            self._stack.pop()

    def pre(self, module: nn.Module, args: Any) -> None:
        """A known model is called."""
        # While every module's call is looked at, this one's has been.
        if not is_compiling() and not self._global:
            self._guarded(self._enter, module, args)

    def post(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """A known model's call has ended."""
        if is_compiling() or self.state.busy or self.state.backward or not self._stack:
            return
        while self._stack and self._stack.pop() is not module:
            pass
        if not self._stack:
            self.state.safely("models", self._leave, module, args, kwargs, output)

    def _enter(self, module: nn.Module, args: Any) -> None:
        state = self.state
        if state.busy or state.backward:
            return
        self._stack.append(module)
        if len(self._stack) == 1:
            state.safely("models", self._begin, module)

    def _begin(self, module: nn.Module) -> None:
        if module not in self._known and not self._hook(module):
            return
        model = self._known[module]
        if torch.is_grad_enabled():
            for observer in self.observers:
                observer.entered(model)

    def _hook(self, module: nn.Module) -> bool:
        """Give a model hooks of its own; only what has parameters is one."""
        inner, wrappers = structure.unwrapped(module)
        if next(inner.parameters(), None) is None:
            return False
        odd = [name for name in wrappers if name in SHARDED]
        unaudited = f"its parameters or passes are spread by {odd[0]}" if odd else ""
        self._known[module] = Model(
            -1, weakref.ref(module), weakref.ref(inner), wrappers, unaudited
        )
        self._attach(module)
        return True

    def _attach(self, module: nn.Module) -> None:
        self._own += [
            module.register_forward_pre_hook(self.pre),
            module.register_forward_hook(self.post, with_kwargs=True, always_call=True),
        ]

    def unhook(self) -> None:
        """Take the hooks of our own off all models for a while."""
        for hook in self._own:
            hook.remove()
        self._own = []

    def rehook(self) -> None:
        """Give all models their hooks again."""
        if not self._own and not self.removed:
            for module in list(self._known):
                self._attach(module)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        model = self._known.get(module)
        if model is None or output is None:
            return
        if not torch.is_grad_enabled():
            self._evaluated(model, module)
            return
        outputs = [
            (path, tensor)
            for path, tensor in structure.tensors_in(output)
            if tensor.requires_grad and tensor.grad_fn is not None
        ]
        if not outputs:
            return
        if model.number < 0:
            self._take(model, module)
        self._trained(model, module)
        for observer in self.observers:
            observer.left(model, args, kwargs, output, outputs)

    def _take(self, model: Model, module: nn.Module) -> None:
        state, inner = self.state, model.inner()
        model.number = len(state.models)
        model.dropouts, model.norms = structure.dropouts_of(inner), structure.norms_of(inner)
        state.models.append(model)
        state.writer.write(structure.described(model.number, module, model.unaudited))
        if model.unaudited:
            reason = f"the gradients of {type(inner).__name__} can't be recomputed: "
            state.writer.write(SwitchedOff("gradient", reason + model.unaudited))
        for observer in self.observers:
            observer.model_found(model)

    def _trained(self, model: Model, module: nn.Module) -> None:
        counts = self.state.counts
        counts.forwards += 1
        self.state.pass_number += 1
        counts.training += bool(module.training)
        model.used_at = self.state.steps
        model.in_a_row = model.in_a_row_effective = 0
        if model.dropouts:
            off = sum(not m.training for m in model.dropouts)
            for one in self.state.optimizers:
                one.dropouts_off = max(one.dropouts_off, off)

    def _evaluated(self, model: Model, module: nn.Module) -> None:
        if model.number < 0 and not self.state.steps:
            model.dropouts = model.dropouts or structure.dropouts_of(module)
            model.norms = model.norms or structure.norms_of(module)
        effective = bool(module.training) and model.is_effective()
        model.evaluations += 1
        model.evaluations_training += bool(module.training)
        model.evaluations_effective += effective
        model.in_a_row += 1
        model.in_a_row_effective += effective
        model.longest = max(model.longest, model.in_a_row)
        model.longest_effective = max(model.longest_effective, model.in_a_row_effective)
        self.state.counts.evaluations += 1
        self.state.counts.evaluations_training += effective
