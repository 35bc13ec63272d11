"""The recipe `inflate_2d3d`; see its README."""
