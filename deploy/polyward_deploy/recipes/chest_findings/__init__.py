"""The recipe `chest_findings`; see its README."""
