"""What several tests of preprocessing share: plain parameters, pictures in a fitted square, and shards."""

from dataclasses import replace

from components.config import Preprocess
from components.data import shards
from components.data.compositing import composite, fit, premultiply, visible_pixels

PARAMS = Preprocess(
    resolution=8,
    aspect="1:1",
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


def planes_of(image):
    """The premultiplied planes of a PIL RGBA image."""
    return premultiply(visible_pixels(image))


def on_white(image, resolution=32):
    """A PIL RGBA image as the training pixels [resolution, resolution, 3] that Lanczos makes of it."""
    return composite(fit(planes_of(image), 0, replace(PARAMS, resolution=resolution)), (255, 255, 255))


def write_shards(folder, images, order, step=4096):
    """Shards of `step` images and their index, from images [N, H, W, C] and each split's positions in them."""
    shape, splits = images.shape[1:], {}
    for split, members in order.items():
        parts = [members[start : start + step] for start in range(0, len(members), step)]
        splits[split] = [
            shards.write_shard(folder / f"{split}-{n:05d}.npy", len(part), shape, (images[m].tobytes() for m in part))
            for n, part in enumerate(parts)
        ]
    return shards.write_index(folder, shape, splits, None)
