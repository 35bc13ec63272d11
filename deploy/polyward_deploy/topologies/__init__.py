"""A study in several topologies, side by side: `runs` trains, `averages` counts, `terminal` and `page` show."""
