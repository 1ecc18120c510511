"""Chapter 9: a pipeline - versioned data in, an evaluated model out, and only what changed is done again.

pipeline      from batches of pictures to a published model, one job a datum, by Snakemake
status        what would run now, and why
graph         a picture of the jobs and what they hand on
provenance    which data, code and parameters made a model, by checksum
rerun_costs   what a change costs: nothing, one datum, all of them
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
