"""Chapter 1: expression graphs with symbolic gradients, simplification, and two ways of execution.

expressions   the book's graphs: values, generated code, diagrams
numerics      condition numbers, and overflow and underflow before and after `simplify`
regression    linear regression by the book's ten steps; speed of four variants of the training step
"""

import common  # noqa: F401  # before torch: sets GOMP_SPINCOUNT
