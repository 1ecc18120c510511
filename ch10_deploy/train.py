"""The door of chapter 10.

python -m ch10_deploy.train                    # train each for seconds, export, check
python -m ch10_deploy.train export --full      # the same with networks that were trained for minutes
python -m ch10_deploy.train serving            # the server under load
"""

from ch10_deploy.attack import fuzzing, serving
from ch10_deploy.exporting import export
from common.cli import main

if __name__ == "__main__":
    main(export, extra=[serving, fuzzing])
