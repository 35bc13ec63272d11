"""A minimal Flower app, shipped by `flwr run` as stock Flower does it."""
