"""The hub: it asks, checks, folds and remembers. It holds no image, no branch and no torch."""
