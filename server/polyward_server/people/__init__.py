"""Who may sign in to the dashboard: their passwords, their sessions, and the attempts that failed."""
