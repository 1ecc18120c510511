"""Chapter 9: a pipeline - from batches of images to a published model, rerunning only what changed.

pipeline      prepare, train, evaluate, compare, publish and predict, with Snakemake
status        list the due jobs, and why they are due
graph         draw the jobs and their dependencies
provenance    trace a model to its data, code and parameters by checksum
rerun_costs   time the pipeline after each kind of change
peers         duration of a run, compared with plain Snakemake
"""

import common  # noqa: F401  # before torch: sets GOMP_SPINCOUNT
