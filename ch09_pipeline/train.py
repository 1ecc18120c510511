"""The door of chapter 9.

python -m ch09_pipeline.train                   # the pipeline on embedded data: all that is due, and no more
python -m ch09_pipeline.train status            # what would run now, and why
"""

from ch09_pipeline import graph, pipeline, provenance, rerun_costs, status
from common.cli import main

if __name__ == "__main__":
    main(pipeline, extra=[status, graph, provenance, rerun_costs])
