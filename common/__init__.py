"""The ground floor: what the book does not teach (devices, data, run folders, drawing, the command line)."""

import os

# OpenMP workers spin at every barrier while they wait for each other. With another busy process on the machine they
# spin against a thread that is not running, and a training that takes seconds takes minutes. A short spin bounds that
# loss, and costs a quiet machine next to nothing on networks large enough to deserve several threads. It is read when
# torch is loaded, so every chapter imports this package first; a value that the user has set stays.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
