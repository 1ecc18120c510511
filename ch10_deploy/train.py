"""Command line of chapter 10.

python -m ch10_deploy.train                    # train each network for seconds, export, compare
python -m ch10_deploy.train export --full      # the same with the chapters' settings, for minutes
python -m ch10_deploy.train serving            # measure the server under load
"""

from ch10_deploy.attack import fuzzing, serving
from ch10_deploy.exporting import export
from common.cli import main

if __name__ == "__main__":
    main(export, extra=[serving, fuzzing])
