"""The recipe `abdomen_organs`; see its README."""
