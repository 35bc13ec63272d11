"""The process that reads images and trains: images in, updates in the spool out. It has no network."""
