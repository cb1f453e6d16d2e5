"""Stands in for torchaudio, which LLaMA-Factory imports for sounds alone; see README.md."""
