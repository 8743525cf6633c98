"""Fit a classifier to photos of new classes."""
