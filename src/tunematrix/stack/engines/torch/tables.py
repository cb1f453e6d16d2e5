"""What transformers works out once for each process: cells forked afterwards find it made.

Imported by the fork server alone. Pure Python: nothing here computes with tensors.
"""

from __future__ import annotations

from contextlib import suppress

with suppress(ImportError):  # releases before 5 convert no checkpoints as they load them
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")
