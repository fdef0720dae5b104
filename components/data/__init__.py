"""From a source of originals to training arrays: sources, compositing, shards, and the data set read from them."""
