"""The step `finalize`: an adapter is merged, the model quantized if asked to, and exported."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunematrix.configuration.steps import FinalizeStep
from tunematrix.errors import BadInput, MachineProblem, StepFailed, WrongSetting
from tunematrix.evidence.events import AdapterShare, StepExported, StepKept
from tunematrix.stack.engines.common import Base
from tunematrix.stack.engines.torch.meters import merged, weights
from tunematrix.stack.quantizers.common import (
    Placement,
    TorchQuantizer,
    from_pretrained,
    from_saved,
)
from tunematrix.stack.recipes import saved
from tunematrix.stack.steps import opening
from tunematrix.stack.steps.job import Line, StepJob

UNFINISHED = "unfinished"
"""Folder, below the step's own, of what isn't whole yet."""
_CONFIG = "config.json"
_STALE = ("*.safetensors", "*.safetensors.index.json", "chat_template.jinja")
_ROUTE = ("export", "output_dir")
_ROWS, _TOKENS, _SEED = 4, 32, 0
"""Of the tokens that a model's logits are compared on."""


@dataclass(frozen=True)
class Export:
    """All that is known before a weight is read.

    Attributes:
        source: what is exported, with its tokenizer; layers: of its base.
        factors: of the adapter, by the names of its layers; empty for none.
        quantizer: how linear layers are stored; name: its option.
        dtype: of everything else.
    """

    source: opening.ModelSource
    tokenizer: PreTrainedTokenizerBase
    layers: Base
    factors: Mapping[str, merged.Factors]
    quantizer: TorchQuantizer
    name: str
    dtype: torch.dtype

    @property
    def quantizes(self) -> bool:
        """Whether it is quantized at all."""
        return self.name != "none"

    @property
    def form(self) -> str:
        """How it is stored, in words."""
        dtype = str(self.dtype).removeprefix("torch.")
        return f"as {self.name}, the rest in {dtype}" if self.quantizes else f"in {dtype}"


@dataclass(frozen=True)
class Remembered:
    """What is known of a model that was exported, once it is gone.

    Attributes:
        logits: on fixed tokens.
        shares: of its adapter, in the merged model that it was quantized from.
    """

    logits: torch.Tensor
    shares: tuple[AdapterShare, ...]


def run(settings: FinalizeStep, job: StepJob) -> None:
    """Export a model: safetensors, configuration and tokenizer, which transformers loads alone.

    Raises:
        WrongSetting: an entry of the config, or the folder that it names, can't be used.
        StepFailed: what was written can't be loaded again.
        MachineProblem: nothing can be written, or the device has too little memory.
    """
    line = Line()
    with job.said(line):
        export = _read(settings, job)
        merges = "merges the adapter in float32, " if export.factors else ""
        opening.begin(export.source, job, f"{merges}stores the model {export.form}")
        if job.dry_run:
            line.text = "nothing was written"
            return
        try:
            before = _written(export, job)
            _hold_to_base(export, before, job)
        except torch.cuda.OutOfMemoryError:
            text = f"{job.device} has too little memory for the model"
            raise MachineProblem(f"{text}; see what else computes there") from None
        size = sum(file.stat().st_size for file in job.output_dir.glob("*.safetensors"))
        line.text = f"exported {export.form}: {size / 1e6:.1f} MB of weights in {job.output_dir}"


def _read(settings: FinalizeStep, job: StepJob) -> Export:
    source = opening.find(settings.model.path, job.config)
    opening.require_plain(source, job)
    _check_folder(source, job.output_dir)
    name = job.config.quantizer.name
    quantizer: TorchQuantizer = instantiate(job.config.quantizer.implementation, _convert_="all")
    if name != "none" and quantizer.unexportable:
        text = f"{name} can't be exported: {quantizer.unexportable}"
        raise WrongSetting(("export", "quantizer"), f"{text}; write none, bnb-nf4 or torchao-int8")
    try:
        tokenizer, layers = opening.tokenizer_of(source), opening.layers_of(source)
    except opening.UNREADABLE as error:
        raise opening.unreadable(settings.model.path, error) from None
    try:
        factors = merged.read(source.adapter, layers.linears) if source.adapter else {}
    except BadInput as error:
        raise WrongSetting(opening.ROUTE, str(error)) from None
    dtype = getattr(torch, settings.export.dtype)
    return Export(source, tokenizer, layers, factors, quantizer, name, dtype)


def _check_folder(source: opening.ModelSource, folder: Path) -> None:
    """See that nothing is overwritten that is still needed, and nothing misread afterwards."""
    if folder.resolve() in (source.path.resolve(), source.base.resolve(), source.adapter):
        text = f"{folder} is what the step reads, and would be overwritten"
        raise WrongSetting(_ROUTE, f"{text}; name another folder")
    if (folder / opening.ADAPTER).is_file():
        text = f"{folder} holds an adapter, which would be put onto the merged model once more"
        raise WrongSetting(_ROUTE, f"{text} by whoever loads it; name another folder")


def _written(export: Export, job: StepJob) -> Remembered:
    """Write the model into the step's folder, as a whole or not at all."""
    unfinished = job.output_dir / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        model = _made(export, job, unfinished / "merged")
        made = unfinished / "model"
        # Before any pass: bitsandbytes repacks its weights then.
        with _writing(job.output_dir):
            model.save_pretrained(made)
            export.tokenizer.save_pretrained(made)
        shares: tuple[AdapterShare, ...] = ()
        if export.quantizes and export.factors:
            turned = {one: weights.is_turned(model.get_submodule(one)) for one in export.factors}
            shares = merged.shares_in_files(unfinished / "merged", _owed(export), turned)
        before = Remembered(_logits(model, job.device), shares)
        del model
        gc.collect()
        with _writing(job.output_dir):
            _publish(made, job.output_dir)
        return before
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _made(export: Export, job: StepJob, folder: Path) -> PreTrainedModel:
    """Return the model that is exported; `folder` gets what it is quantized from, if it is."""
    try:
        if not export.quantizes:
            whole = opening.merged(export.source, job.config)
            assert isinstance(whole, PreTrainedModel)
            # Not `to`, which would cast what is computed anew at each load, such as positions.
            for parameter in whole.parameters():
                parameter.data = parameter.data.to(export.dtype)
            return whole.eval()
        with _writing(job.output_dir):
            start = opening.save_merged(export.source, job.config, folder)
        cache = Path(job.config.cache_dir or ".")
        placement = Placement(job.device, export.dtype, export.dtype, cache)
        settings = export.quantizer.export_settings(placement)
        return from_pretrained(start, placement, **settings).eval()
    except opening.UNREADABLE as error:
        raise opening.unreadable(str(export.source.path), error) from None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Tell what can't be written from what can't be read.

    Raises:
        MachineProblem: something can't be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        text = f"can't write the model into {folder} ({error}); likely the disk is full"
        raise MachineProblem(f"{text}: free space, or choose another output_dir") from error


def _publish(made: Path, folder: Path) -> None:
    """Move a model's files to where they belong; without its config.json none is a model."""
    (folder / _CONFIG).unlink(missing_ok=True)
    for pattern in _STALE:
        for file in folder.glob(pattern):
            file.unlink()
    for file in sorted(made.iterdir(), key=lambda one: one.name == _CONFIG):
        if (folder / file.name).is_dir():
            shutil.rmtree(folder / file.name)
        file.replace(folder / file.name)


def _hold_to_base(export: Export, before: Remembered, job: StepJob) -> None:
    """Load what was written from files alone, and hold it against base, adapter and memory."""
    folder = job.output_dir
    try:
        again = from_saved(folder, job.device).eval()
    except opening.UNREADABLE as error:
        text = f"what was written to {folder} can't be loaded ({type(error).__name__}: {error})"
        raise StepFailed(f"{text}; likely it was cut off: run the step again") from None
    owed, theory = _owed(export), job.config.quantizer.theory
    rounding = None if theory is None else theory.rounding
    how = weights.Layers(export.quantizer, export.dtype, rounding, multiplies=False)
    # Before the first pass, for the same reason.
    shares = merged.shares_in_model(again, owed, export.quantizer)
    found = weights.measure(again, export.layers, owed, how)
    job.events.write(StepKept(job.name, found, shares, before.shares))
    apart = (_logits(again, job.device) - before.logits).abs().max()
    largest = float(before.logits.abs().max())
    job.events.write(StepExported(job.name, largest, float(apart)))
    if settings := saved.compare(export.source.base, folder, export.tokenizer):
        job.events.write(settings)


def _owed(export: Export) -> merged.MergedOriginals:
    return merged.MergedOriginals(export.source.base, export.factors)


def _logits(model: nn.Module, device: str) -> torch.Tensor:
    """Return a model's logits on fixed tokens, in float32 and in the machine's own memory."""
    assert isinstance(model, PreTrainedModel)
    text = model.config.get_text_config()
    length = min(_TOKENS, getattr(text, "max_position_embeddings", _TOKENS))
    draws = torch.Generator().manual_seed(_SEED)
    ids = torch.randint(text.vocab_size, (_ROWS, length), generator=draws).to(device)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids).logits
    return logits.float().cpu()
