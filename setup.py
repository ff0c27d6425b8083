"""What is compiled; where no compiler is, remuxd does without it."""

from Cython.Build import cythonize
from setuptools import Extension, setup

compiled = cythonize(
    [
        Extension(
            f"proxy.media.{name}",
            [f"proxy/media/{name}.pyx"],
            extra_compile_args=["-O3", "-g0"],
        )
        for name in ("flow", "transport")
    ]
)
for extension in compiled:
    extension.optional = True  # cythonize would forget it

setup(ext_modules=compiled)
