"""Measuring a generator: features of images, their Gaussian statistics, distances and pictures."""
