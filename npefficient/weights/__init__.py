"""Weights as a file, and fitted to another number of classes or channels."""
