"""Solution: a format from which the inputs can be read back.

Joined texts do not show where one ends: the parameter "a" with the value 12 and "a1" with 2 gave the same text. JSON
separates names and values, and distinguishes the number 1 from the text "1"; sorted names make the order irrelevant.
The parameters and the inputs are two elements, so a parameter is not taken for an input of the same name.
"""

import hashlib
import json
from typing import Any


def cache_key(parameters: dict[str, Any], inputs: dict[str, str]) -> str:
    """Parameters by name (numbers, texts, lists), contents of the inputs by name -> key"""
    text = json.dumps([parameters, inputs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
