"""The version of the package, in a module that imports nothing.

In: nothing. Out: `__version__`.
"""

__version__ = "0.1.0"
