"""Shared code that the book does not teach: devices, data, run folders, drawing, the command line."""

import os

# OpenMP threads spin at every barrier while they wait for each other. If another process is busy, they spin while the
# thread that they wait for is not running, and a training run of seconds takes minutes. A short spin limits that loss;
# on a quiet machine it costs almost nothing for networks large enough for several threads. The variable is read when
# torch is loaded, so every chapter imports this package first. A value set by the user is kept.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
