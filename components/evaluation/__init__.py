"""Measuring a generator: features of images, distances, copies, collapse and pictures."""
