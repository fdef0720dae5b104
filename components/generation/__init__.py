"""From a generator folder to images."""
