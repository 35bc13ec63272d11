"""Pure rules: from the sites' updates to the next state. What each needs says `polyward_shared.aggregation`."""
