"""Find the bug: the key of a cached result (15 minutes)

A pipeline keeps the result of a job under a key, and looks it up instead of running the job again. Two jobs must have
the same key if they have the same parameters and the same inputs (names and contents); the order in which they are
listed does not matter. Otherwise the keys must differ.

With the function below two different jobs can have the same key, and one of them gets the result of the other; and the
same job can have two keys. Return any text that satisfies both conditions. The check compares the keys of two jobs,
each a pair (parameters, inputs).

Check: python -m ch09_pipeline.exercises 2
"""

import hashlib
from typing import Any


def cache_key(parameters: dict[str, Any], inputs: dict[str, str]) -> str:
    """Parameters by name (numbers, texts, lists), contents of the inputs by name -> key"""
    # Find the bug, then delete this comment.
    parts = [f"{name}{value}" for name, value in [*parameters.items(), *inputs.items()]]
    return hashlib.sha256("".join(parts).encode()).hexdigest()
