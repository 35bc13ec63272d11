"""The recipe `vessel_centreline`; see its README."""
