"""Extending PyTorch: the same operators in Python, C++ and Triton.

contract        schemas, fake kernels and derivatives, shared by all implementations
python_kernels  the operators in Python, from torch's own functions
cpp_kernels     builds the operators of kernels.cpp at first use, if there is a compiler
triton_kernels  the operators in Triton, for a GPU
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
