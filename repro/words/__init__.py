"""What a user may say, and which runs an exhibit needs. Nothing here trains or reads records."""
