"""What maintains this repository; neither packaged nor part of the users' command line."""
