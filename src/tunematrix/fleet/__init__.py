"""One run over several machines: a scheduler, a worker in each environment, and the driver.

Dask distributed does all scheduling. What travels is plain data: a cell as JSON to a worker, its
record and its evidence as a zip file back, so that Pythons and libraries may differ. `driver` sends
cells and takes results; `worker` offers a machine, and its `workplace` runs what comes;
`certificates` and `address` decide who may speak. Dask is imported by `settings` and by what
imports that; a run without --fleet imports none of these.
"""
