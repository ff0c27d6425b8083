"""What is compiled; where no compiler is, remuxd does without it."""

from Cython.Build import cythonize
from setuptools import Extension, setup

# gcc would copy the payload of each transport packet, of which it knows that it is short, by
# `rep movsq`, which takes its time to begin: three quarters of what taking packets cost.
ARGUMENTS = ["-O3", "-g0", "-fno-builtin-memcpy"]

compiled = cythonize(
    [
        Extension(
            f"proxy.media.{name}",
            [f"proxy/media/{name}.pyx"],
            extra_compile_args=ARGUMENTS,
        )
        for name in ("flow", "transport")
    ]
)
for extension in compiled:
    extension.optional = True  # cythonize would forget it

setup(ext_modules=compiled)
