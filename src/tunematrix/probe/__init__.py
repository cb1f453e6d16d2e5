"""The folder that `tunematrix watch` puts first on PYTHONPATH: so every process has the probe."""
