"""`icportrait measure`: one file a command."""
