"""Pure functions from pictures, points or flows to figures."""
