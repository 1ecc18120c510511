"""Extending PyTorch: the same operators in Python, C++ and Triton.

contract        what makes functions operators: a schema, a fake kernel, a derivative
python_kernels  the operators as torch would write them
cpp_kernels     builds kernels.cpp at first use, where there is a compiler
triton_kernels  the same for a GPU
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
