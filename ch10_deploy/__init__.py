"""Chapter 10: deployment - export trained networks and serve them over HTTP.

export          trained networks of the chapters as ONNX graphs, compared with the originals, each with a card
serving         the server under load: throughput and latency
fuzzing         the server under malformed requests and attacks: responses and memory
"""

import common  # noqa: F401  # before torch: sets GOMP_SPINCOUNT
