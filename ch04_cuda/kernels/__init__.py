"""Custom PyTorch operators in Python, C++ and Triton.

contract        schemas, fake kernels and derivatives, shared by all implementations
python_kernels  the operators in Python, with torch's own functions
cpp_kernels     builds the operators of kernels.cpp at first use, if a compiler is installed
triton_kernels  the operators in Triton, for a GPU
"""

import common  # noqa: F401  # before torch: common sets the thread policy
