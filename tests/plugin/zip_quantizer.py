"""A distribution that brings a quantizer of its own, with all that belongs to it."""

from __future__ import annotations

LIBRARY = """
import os, pathlib

pathlib.Path(os.environ["IMPORTED"]).touch()


class ZipQ:
    def __init__(self, bits):
        self.bits = bits


def zip_up(config, events, output_dir):
    from hydra.utils import instantiate
    from tunematrix.evidence.events import Determinants

    quantizer = instantiate(config.quantizer.implementation)
    events.write(Determinants({"bits": quantizer.bits, "folded": os.environ.get("FOLDED")}))
"""
FAULTS = '''
import os

import zipq
from tunematrix.faults.catalogue import fault


@fault("quantizer", replaces=(zipq.ZipQ, "__init__"), seen_by=("lora[*-lora-hqq-int4]",))
def one_bit_lost(original, quantizer, bits, *, config, call):
    """Keep one bit less than was asked for."""
    os.environ["FOLDED"] = f"{config.quantizer.name} {call}"
    original(quantizer, bits - 1)
'''
READER = '''
import re

from tunematrix.evidence.events import LoggedStep
from tunematrix.evidence.readers import LogContent


def read(log):
    """Read a log whose first line says `zipq 1`."""
    if not log.head.startswith(b"zipq 1"):
        return None
    lines = re.findall(r"(\\d+): (.+)", log.text())
    return LogContent(tuple(LoggedStep(int(step), float(loss)) for step, loss in lines))
'''
QUANTIZER = """
name: zipq-int6
requires: [zipq]
implementation: {_target_: zipq.ZipQ, bits: 6}
capabilities:
  launcher:
    single: true
    ddp: true
    fsdp: {reason: "packed weights can't be spread", raises: RuntimeError}
"""
ZIPQ = {
    "zipq/__init__.py": LIBRARY,
    "zipq/faults.py": FAULTS,
    "zipq/logs.py": READER,
    "zipq/configs/quantizer/zipq-int6.yaml": QUANTIZER,
    "zipq/configs/recipe/zip.yaml": (
        "name: zip\nimplementation: {_target_: zipq.zip_up, _partial_: true}\n"
    ),
    "zipq/configs/method/zip-lora.yaml": (
        "name: zip-lora\ntrains_base: false\nlearning_rates: {adaptive: 0.01, plain: 1.0}\n"
    ),
    "zipq/configs/backend/zipper.yaml": "name: zipper\nengine: python\nmax_grad_norm: 0.0\n",
}
POINTS = {
    "tunematrix.quantizers": {"zipq": "zipq:configs"},
    "tunematrix.methods": {"zipq": "zipq:configs"},
    "tunematrix.recipes": {"zipq": "zipq:configs"},
    "tunematrix.backends": {"zipq": "zipq.configs"},
    "tunematrix.faults": {"zipq": "zipq.faults"},
    "tunematrix.log_readers": {"zipq": "zipq.logs:read"},
}
