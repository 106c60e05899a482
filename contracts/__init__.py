"""What transactions mean: one file per health application. Pure."""
