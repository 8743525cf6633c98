"""The version, where all rooms may read it."""
__version__ = "0.1.0"
