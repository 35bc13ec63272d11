"""Pure rules: from the sites' updates to the next state."""
