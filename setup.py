"""Only what pyproject.toml cannot say: the optional C extension."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("stretto.runtime._batch", ["src/stretto/runtime/_batch.c"], optional=True, extra_compile_args=["-O2"])])
