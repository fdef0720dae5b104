"""What several tests of preprocessing share: plain parameters, and pictures in a fitted square."""

from dataclasses import replace

from components.config import Preprocess
from components.data.compositing import composite, fit, premultiply

PARAMS = Preprocess(
    resolution=8,
    channels=3,
    background="#ffffff",
    frames="first",
    trim=False,
    margin=0.0,
    shape="pad",
    pixel_art=True,
    linear_light=False,
    near_duplicates="report",
    mirrors="report",
    recolours="report",
    labels=False,
    holdout=0.3,
    max_pixels=2**26,
)


def on_white(image, resolution=32):
    """A PIL RGBA image as the training pixels [resolution, resolution, 3] that Lanczos makes of it."""
    return composite(fit(premultiply(image), 0, replace(PARAMS, resolution=resolution)), (255, 255, 255))
