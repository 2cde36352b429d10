"""The nets, their files, and how they are loaded."""
