"""How the losses of a site's tasks combine. Absent tasks have been dropped before: K is the number of present ones."""
