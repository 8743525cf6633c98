"""Fit a classifier to the photos of one's own classes."""
