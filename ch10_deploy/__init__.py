"""Chapter 10: deployment - trained networks leave Python's training world and answer requests.

export          trained networks of the chapters as ONNX graphs, held against the originals, each with a card
serving         the server under load: requests a second, and how long the slowest wait
fuzzing         the server under thousands of malformed requests: it must refuse them, and keep its memory
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
