"""The hospital's side: the gate (network, no images) and the trainer (images, no network)."""
