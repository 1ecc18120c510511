"""Solution: the length first, then every image.

Without complete records, labels and images would be read from the wrong places. 0 is divisible by every number, so the
empty batch needs a case of its own. `stages/prepare.py` checks the same and writes the reason on the card.
"""


def reason(batch: bytes, pixels: int, classes: int) -> str:
    """Bytes of a batch, bytes of an image (at least 2), number of classes -> reason for quarantine"""
    if not batch:
        return "empty"
    if len(batch) % (1 + pixels):
        return "truncated"
    records = [batch[start : start + 1 + pixels] for start in range(0, len(batch), 1 + pixels)]
    if any(record[0] >= classes for record in records):
        return "label"
    return "single colour" if any(len(set(record[1:])) == 1 for record in records) else ""
