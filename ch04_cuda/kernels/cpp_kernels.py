"""Build the C++ operators of kernels.cpp at first use and register their derivatives.

The first `load` on a machine takes about half a minute; torch stores the result in its cache of extensions.
"""

import functools
import logging
import shutil
import subprocess
from pathlib import Path

from ch04_cuda.kernels.contract import complete

SOURCE = Path(__file__).with_name("kernels.cpp")


@functools.cache
def no_compiler() -> str | None:
    """Return an error message if no C++ compiler is installed, else None."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns if CUDA is missing
    from torch.utils import cpp_extension

    if shutil.which(cpp_extension.get_cxx_compiler()) is None:
        return f"no C++ compiler: {cpp_extension.get_cxx_compiler()} was not found"
    return None


def why_absent() -> str | None:
    """Return an error message if the operators cannot be built, else None."""
    from torch.utils import cpp_extension

    if no_compiler() is None and not cpp_extension.is_ninja_available():
        return "ninja, which PyTorch needs for building extensions, was not found"
    return no_compiler()


@functools.cache
def load() -> None:
    """Build the operators unless they are in the cache, and register them as `torch.ops.companion_cpp`.

    Raises RuntimeError with the last line of the compiler's output if the build fails.
    """
    from torch.utils import cpp_extension

    try:
        cpp_extension.load(
            "companion_cpp",
            [str(SOURCE)],
            extra_cflags=["-O3", "-march=native", "-fno-math-errno"],
            is_python_module=False,
        )
    except (subprocess.CalledProcessError, RuntimeError) as error:
        raise RuntimeError(f"{SOURCE} did not build: {str(error).strip().splitlines()[-1]}") from error
    complete("companion_cpp")
