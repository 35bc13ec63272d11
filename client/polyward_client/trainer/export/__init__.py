"""A finished study's encoder and branches in forms that other programs read. `write.py` holds the list."""
