"""The recipe `diabetic_retinopathy`; see its README."""
