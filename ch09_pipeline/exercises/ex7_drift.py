"""Find the bug: drift between two batches (10 minutes)

The classes of a new batch are compared with those of the training data by the total variation distance of their shares
p_k and q_k,

    d = 1/2 sum_k |p_k - q_k|.

It is 0 if the shares are equal and 1 if no class occurs in both. The function below computes it from the numbers of
images per class. It reports drift for a batch of 100 images that has the same shares as 10,000 training images. Why?

Check: python -m ch09_pipeline.exercises 7
"""


def drift(training: list[int], new: list[int]) -> float:
    """Images per class in the training data, images per class in the new batch (neither is empty) -> distance"""
    # Find the bug, then delete this comment.
    total = sum(training) + sum(new)
    return sum(abs(p - q) for p, q in zip(training, new, strict=True)) / total
