"""Variations of a study, side by side: `plan` says what is trained, `training` trains, `figures` reads what that left,
`averages` and `ranks` count, `tables`, `terminal` and `page` show."""
