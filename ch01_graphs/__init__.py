"""Chapter 1: expression graphs with symbolic gradients, simplification and two kinds of execution.

expressions   the book's five graphs: values, generated code, diagrams
numerics      condition numbers, overflow and underflow, before and after a graph is rewritten
regression    linear regression by the book's ten steps; speed of several variants of its step
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
