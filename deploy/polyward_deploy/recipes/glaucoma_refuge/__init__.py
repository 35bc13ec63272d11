"""The recipe `glaucoma_refuge`; see its README."""
