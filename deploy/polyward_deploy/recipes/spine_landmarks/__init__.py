"""The recipe `spine_landmarks`; see its README."""
