"""Chapter 1: expression graphs - formulas first, numbers later, and gradients as more formulas.

expressions   the book's five graphs: their values, their code, their pictures
numerics      where a correct formula gives a wrong number, and how a rewritten graph gives the right one
regression    linear regression by the book's ten steps, and what each way of running its graph costs
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
