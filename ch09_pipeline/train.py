"""Command line of chapter 9.

python -m ch09_pipeline.train                   # run the due jobs of the pipeline on embedded data
python -m ch09_pipeline.train status            # list the due jobs, and why they are due
"""

from ch09_pipeline import graph, peers, pipeline, provenance, rerun_costs, status
from common.cli import main

if __name__ == "__main__":
    main(pipeline, extra=[status, graph, provenance, rerun_costs, peers])
