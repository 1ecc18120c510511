"""Data sets as tensors in memory, from disk, download or the machine itself."""
