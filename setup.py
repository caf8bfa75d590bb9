"""For tools that look for it; all that it would say is in pyproject.toml."""

from setuptools import setup

setup()
