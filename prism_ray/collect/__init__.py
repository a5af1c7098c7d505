"""A pass over the real training images: statistics of layers, scores of images. No Ray, no store."""
